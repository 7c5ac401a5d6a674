"""The pack inside each host: it loads fast, completely, and without a word of warning."""

from __future__ import annotations

import re

import pytest

from .hosts import PACK
from .server import Server

NODES = {
    "GF_LoadModel": "Load Model (Grounded Forcing)",
    "GF_DualMemoryCache": "Dual Memory Cache",
    "GF_PromptTimeline": "Prompt Timeline",
    "GF_ShotCut": "Shot Cut",
    "GF_StreamSampler": "Stream Sampler",
    "GF_SegmentTakes": "Segment Takes",
    "GF_SaveVideo": "Save Video (Grounded Forcing)",
    "GF_TakeToImages": None,
    "GF_TakeToLatent": None,
    "GF_TakeSheet": None,
    "GF_TakeReport": None,
    "GF_TakeDrift": None,
}
"""node id -> display name, None where any will do"""
IMPORT_SECONDS = 2.0
"""far above what it takes (see the log), for busy machines"""


def test_it_loads_fast(server: Server) -> None:
    found = re.search(rf"([\d.]+) seconds( \(IMPORT FAILED\))?: .*{PACK}", server.log)
    assert found, server.log[-3000:]
    assert not found[2], server.log[-6000:]
    assert float(found[1]) < IMPORT_SECONDS


def test_every_node_is_there(server: Server) -> None:
    ours = {key: node for key, node in server.object_info().items() if key.startswith("GF_")}
    assert set(NODES) <= set(ours)
    for key, name in NODES.items():
        assert name is None or ours[key]["display_name"] == name
    assert all(node["category"].startswith("Grounded Forcing") for node in ours.values())


def test_every_input_and_output_says_what_it_is(server: Server) -> None:
    silent = []
    for key, node in server.object_info().items():
        if not key.startswith("GF_"):
            continue
        inputs = {**node["input"].get("required", {}), **node["input"].get("optional", {})}
        silent += [f"{key}.{name}" for name, entry in inputs.items() if not entry[1].get("tooltip")]
        tips = node.get("output_tooltips") or []
        silent += [f"{key} output {i}" for i in range(len(node["output"])) if i >= len(tips) or not tips[i]]
    assert silent == []


def test_nothing_of_ours_is_complained_about(server: Server) -> None:
    server.object_info()
    bad = re.compile(r"warning|error|traceback|failed|deprecat", re.IGNORECASE)
    ours = re.compile(rf"{PACK}|\bGF_|grounded", re.IGNORECASE)
    lines = [line for line in server.log.splitlines() if bad.search(line) and ours.search(line)]
    assert lines == []


@pytest.mark.parametrize("path", ["grounded.js"])
def test_the_front_end_gets_our_files(server: Server, path: str) -> None:
    assert f"/extensions/{PACK}/{path}" in server.get("/extensions")
    assert server.read(f"/extensions/{PACK}/{path}")
