"""What a MODEL cannot hold is refused; the module needs no ComfyUI, but its package does."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.torch import save_file

from gf_core.config import ModelSpec
from gf_core.model.wan import WanModel

SPEC = ModelSpec(dim=128, ffn_dim=16, num_heads=1, num_layers=1, text_dim=8, freq_dim=16)


@pytest.fixture
def settings(of_pack):
    return of_pack("native.settings")


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
    assert "Load Model" in told.value.fix


def test_a_name_that_does_not_tell_is_for_the_user_to_say(settings, monkeypatch, tmp_path):
    """A file of another loader: its name says that it has a second set of weights, and there is none in it."""
    tensors = WanModel(SPEC).state_dict()
    path = tmp_path / "self_gradient_forcing_plus.safetensors"
    save_file(tensors, path)
    monkeypatch.setattr(settings, "locate", lambda name, folders=(): path)
    with pytest.raises(Exception, match="lacks a second set") as told:
        settings._from_file(path.name, SPEC)
    assert "under `assume`" in told.value.fix
