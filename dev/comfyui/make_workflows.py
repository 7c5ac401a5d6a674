"""Writes workflows/*.json, their API twins and their pictures, from the tables in graphs.py and a real front end.

    python -m dev.comfyui.make_workflows [--only 01_first_film] [--pictures]

Run it from the repository's root with the `browser` extra installed and the oldest supported front end in the host
(or named in GROUNDED_FRONTEND): what an old front end saves, every newer one opens. --pictures also renders each
workflow that needs no files and makes its thumbnail from the film's own frames.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from pathlib import Path
from typing import Any

from tests.comfyui.browser import Browser, missing_browser, open_browser
from tests.comfyui.hosts import ROOT, find_hosts
from tests.comfyui.server import Server
from tests.comfyui.stand_ins import fill_models

from .graphs import WORKFLOWS, Workflow, api_prompt
from .layout import arrange
from .thumbnail import make_thumbnail

FOLDER = ROOT / "workflows"
log = logging.getLogger("grounded")


def write_json(path: Path, value: Any) -> None:
    """Indented, so that a change of a workflow can be read in a diff."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


FIX_SEEDS = """() => window.app.graph._nodes.forEach((node) => (node.widgets || [])
  .filter((widget) => widget.name === 'control_after_generate').forEach((widget) => { widget.value = 'fixed'; }))"""
"""a seed that changes by itself would render the film anew at every press of Run"""


def make(browser: Browser, workflow: Workflow) -> dict[str, Any]:
    """Write one workflow in both formats; its API prompt."""
    browser.load_api(api_prompt(workflow), workflow.name)
    browser.page.evaluate(FIX_SEEDS)
    browser.load(arrange(browser.serialize(), workflow))
    saved, prompt = browser.serialize(), browser.prompt()
    placed = arrange(saved_without_notes(saved), workflow)
    write_json(FOLDER / f"{workflow.name}.json", placed)
    write_json(FOLDER / "api" / f"{workflow.name}.json", prompt)
    return prompt


def saved_without_notes(graph: dict[str, Any]) -> dict[str, Any]:
    """The graph as before `arrange`, with the sizes that the front end gave its nodes once they were placed."""
    return {**graph, "nodes": [node for node in graph["nodes"] if node["type"] != "MarkdownNote"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="part of a workflow's name")
    parser.add_argument("--pictures", action="store_true", help="render, and make the thumbnails")
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    hosts, reason = find_hosts()
    if not hosts or missing_browser():
        raise SystemExit(reason or missing_browser())
    with tempfile.TemporaryDirectory() as folder, Server(hosts[0], fill_models(Path(folder))) as server:
        with open_browser(server) as browser:
            made = [(w, make(browser, w)) for w in WORKFLOWS if chosen.only in w.name]
        for workflow, prompt in made:
            log.info("%s: %d nodes", workflow.name, len(prompt))
            card = FOLDER / f"{workflow.name}.jpg"
            if not chosen.pictures:
                continue
            if not workflow.needs_files:
                result = server.queue(prompt, timeout=1800)
                if result.status != "success":
                    raise SystemExit(f"{workflow.name} did not run: {result.error}")
            make_thumbnail(workflow, Path(folder) / "output", card)


if __name__ == "__main__":
    main()
