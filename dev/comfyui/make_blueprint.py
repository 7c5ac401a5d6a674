"""Writes subgraphs/Film.json, the pack's nodes in one box, from a real front end: python -m dev.comfyui.make_blueprint

Front ends offer it among the nodes, under Subgraph Blueprints. Inside it is an ordinary graph.
"""

from __future__ import annotations

import tempfile
import uuid
from pathlib import Path
from typing import Any

from gf_core.arguments import Parser
from tests.comfyui.browser import Browser, open_browser
from tests.comfyui.hosts import ROOT, find_hosts
from tests.comfyui.server import Server
from tests.comfyui.stand_ins import fill_models

from .graphs import Link, Node, Workflow, api_prompt, storyboard
from .layout import REGISTRY_NAME, arrange
from .make_workflows import FIX_SEEDS, saved_without_notes, write_json

NAME = "Film"
ABOUT = "A storyboard becomes a film: model, memory, words, one more shot (bypassed), sampler and file in one box."
BOX = Workflow(
    "0_film",
    NAME,
    ABOUT,
    (
        Node("load", "GF_LoadModel", 0, {"model": "built-in"}, width=340),
        Node("memory", "GF_DualMemoryCache", 0, {}, width=340),
        Node("timeline", "GF_PromptTimeline", 1, {"timeline": storyboard("first_film")}, width=520),
        Node(
            "shot", "GF_ShotCut", 1, {"timeline": Link("timeline"), "prompt": "a blue owl sleeps"}, width=520
        ),
        Node(
            "sampler",
            "GF_StreamSampler",
            2,
            {
                **{name: Link("load", at) for at, name in enumerate(("model", "clip", "vae"))},
                "timeline": Link("shot"),
                "memory": Link("memory"),
                "seed": 7,
            },
            width=340,
            height=600,
        ),
        Node("save", "GF_SaveVideo", 3, {"take": Link("sampler")}, width=360, height=460),
    ),
    ("",),
    ("", "", "", ""),
)
OUTSIDE = (
    ("GF_LoadModel", "model"),
    ("GF_PromptTimeline", "timeline"),
    ("GF_DualMemoryCache", "preset"),
    *(("GF_StreamSampler", name) for name in ("width", "height", "seed", "take")),
    ("GF_SaveVideo", "filename_prefix"),
)
"""widgets that the box shows: kind of node, name"""
INTO_A_BOX = """() => {
  const {graph} = window.app;
  graph._nodes.filter((node) => node.type === 'MarkdownNote').forEach((node) => graph.remove(node));
  const {subgraph, node} = graph.convertToSubgraph(new Set(graph._nodes));
  const of = (type) => subgraph.nodes.find((one) => one.type === type);
  of('GF_ShotCut').mode = 4;
  for (const [type, name, kind] of [['GF_StreamSampler', 'start_image', 'IMAGE'], ['GF_SaveVideo', 'audio', 'AUDIO']]) {
    const inner = of(type);
    subgraph.addInput(name, kind).connect(inner.inputs.find((input) => input.name === name), inner);
  }
  for (const [type, name, kind] of [['GF_SaveVideo', 'video', 'VIDEO'], ['GF_StreamSampler', 'take', 'GF_TAKE']])
    subgraph.addOutput(name, kind).connect(of(type).outputs[0], of(type));
  node.title = subgraph.name = 'Film';
}"""


def box(browser: Browser) -> dict[str, Any]:
    """The blueprint as the front end serialises it, with what it cannot know of."""
    browser.load_api(api_prompt(BOX), NAME)
    browser.page.evaluate(FIX_SEEDS)
    browser.load(arrange(browser.serialize(), BOX))
    browser.load(arrange(saved_without_notes(browser.serialize()), BOX))
    browser.page.evaluate(INTO_A_BOX)
    graph = browser.serialize()
    (node,), (inside,) = graph["nodes"], graph["definitions"]["subgraphs"]
    names = {node["type"]: str(node["id"]) for node in inside["nodes"]}
    identity = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{REGISTRY_NAME}/subgraphs/{NAME}"))
    inside |= {"id": identity, "category": "Grounded Forcing", "description": ABOUT}
    node |= {"type": identity, "pos": [0, 0], "size": [420, 460]}
    node["properties"] = {"proxyWidgets": [[names[kind], widget] for kind, widget in OUTSIDE]}
    return {**graph, "id": identity, "extra": {}, "groups": []}


def main() -> None:
    Parser(description=__doc__).parse_args()
    hosts, reason = find_hosts()
    if not hosts:
        raise SystemExit(reason)
    with (
        tempfile.TemporaryDirectory() as folder,
        Server(hosts[0], fill_models(Path(folder))) as server,
        open_browser(server) as browser,
    ):
        made = box(browser)
    write_json(ROOT / "subgraphs" / f"{NAME}.json", made)


if __name__ == "__main__":
    main()
