"""What a MODEL cannot hold is refused; the module needs no ComfyUI, but its package does."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from .conftest import ROOT


@pytest.fixture
def settings(monkeypatch):
    for name, folder in (("gf_pack", ROOT), ("gf_pack.nodes", ROOT / "nodes")):
        package = ModuleType(name)
        package.__path__ = [str(folder)]
        monkeypatch.setitem(sys.modules, name, package)
    yield importlib.import_module("gf_pack.nodes.native.settings")
    for name in [name for name in sys.modules if name.startswith("gf_pack.")]:
        del sys.modules[name]


def item(*names):
    return SimpleNamespace(
        what=SimpleNamespace(tensors=dict.fromkeys(names)),
        file=SimpleNamespace(path=Path("model.pt")),
    )


@pytest.mark.parametrize("second", ["memory_head.modulation", "blocks.0.self_attn.q.memory_weight"])
def test_a_second_set_of_weights_is_not_left_out_unseen(settings, second):
    settings.require_one_set(item("head.modulation", "blocks.0.self_attn.q.weight"))
    with pytest.raises(Exception, match=r"model\.pt holds a second set of weights") as told:
        settings.require_one_set(item("head.modulation", "blocks.0.self_attn.q.weight", second))
    assert "command line" in told.value.fix
