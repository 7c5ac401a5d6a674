"""The shipped workflows as files, and short versions of them that a test can wait for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .hosts import ROOT

FOLDER = ROOT / "workflows"
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.json")))
SHORT = "@seed 7\n\na red fox walks right in a meadow at noon | 1.5s\nthen: it jumps | 0.75s\n"


def ui_graph(name: str) -> dict[str, Any]:
    """What the browser opens."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def api_prompt(name: str) -> dict[str, Any]:
    """What POST /prompt takes."""
    return json.loads((FOLDER / "api" / f"{name}.json").read_text(encoding="utf-8"))


def thumbnail(name: str) -> Path:
    """The picture on the template's card."""
    return FOLDER / f"{name}.jpg"


def shortened(prompt: dict[str, Any], text: str = SHORT) -> dict[str, Any]:
    """The same prompt with films of a few chunks: every timeline becomes `text`, every Shot Cut 0.75 s."""
    short = json.loads(json.dumps(prompt))
    for node in short.values():
        if node["class_type"] == "GF_PromptTimeline":
            node["inputs"]["timeline"] = text
        elif node["class_type"] == "GF_ShotCut":
            node["inputs"]["seconds"] = 0.75
    return short


def of_kind(prompt: dict[str, Any], kind: str) -> list[str]:
    """Ids of the nodes of one kind, in order."""
    return sorted((key for key, node in prompt.items() if node["class_type"] == kind), key=int)
