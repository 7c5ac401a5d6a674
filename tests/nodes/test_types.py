"""What the pack's own sockets carry."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from gf_core.timeline import parse

TEXT = "a red fox walks | 3s\n# a remark\nthen: it jumps | 2s"


@pytest.fixture
def types(of_pack, monkeypatch):
    latest = ModuleType("comfy_api.latest")
    monkeypatch.setattr(latest, "io", SimpleNamespace(Custom=str), raising=False)
    monkeypatch.setitem(sys.modules, "comfy_api", ModuleType("comfy_api"))
    monkeypatch.setitem(sys.modules, "comfy_api.latest", latest)
    return of_pack("types")


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n# the last word"])
def test_a_seed_of_the_node_leaves_every_line_where_the_artist_sees_it(types, end):
    told = types.TimelineText(parse(TEXT + end), TEXT + end).with_seed(21)
    assert parse(told.text) == told.board and told.board.seed == 21
    assert [segment.line for segment in parse(told.text).segments] == [1, 3]
    assert told.with_seed(4) is told
