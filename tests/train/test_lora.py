"""Adapters begin as nothing, learn alone, and what is written is read by the loader of films (and PEFT's names)."""

import copy
import json

import pytest
import torch
from safetensors.torch import load_file

from gf_core.checkpoints.lora import open_lora
from gf_core.model.wan import WanModel
from gf_core.train.lora import LoraSpec, add_lora, save_lora
from gf_core.train.state import learned

from ..engine.conftest import SPEC

LORA = LoraSpec(rank=4, alpha=6.0)


@pytest.fixture
def model() -> WanModel:
    torch.manual_seed(0)
    return WanModel(SPEC)


def answer(model: WanModel) -> torch.Tensor:
    """What the first block's feed-forward and the second's keys give: layers of both attentions and of the rest."""
    x = torch.linspace(-1, 1, 6 * 32).view(1, 6, 32)
    return torch.cat(
        [model.blocks[0].ffn(x), model.blocks[1].self_attn.k(x), model.blocks[0].cross_attn.o(x)]
    )


def test_adapters_begin_as_nothing_and_are_all_that_learns(model):
    before = answer(model)
    names = set(model.state_dict())
    add_lora(model, LORA)
    assert torch.equal(answer(model), before) and names < set(model.state_dict())
    layers = 2 * 10  # q, k, v, o twice and two of the feed-forward
    assert len(learned(model)) == 2 * layers and all(".lora_" in name for name in learned(model))
    answer(model).sum().backward()
    assert {name for name, p in model.named_parameters() if p.grad is not None} <= set(learned(model))
    assert model.blocks[0].ffn[0].lora_B.weight.grad.abs().sum() > 0


def test_the_files_merge_to_what_was_trained(model, tmp_path):
    plain = copy.deepcopy(model)
    add_lora(model, LORA)
    for value in learned(model).values():
        torch.nn.init.normal_(value, std=0.2)
    save_lora(learned(model), LORA, tmp_path)
    names = set(load_file(tmp_path / "adapter_model.safetensors"))
    assert "base_model.model.blocks.1.cross_attn.o.lora_B.weight" in names and len(names) == 40
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"]) == (4, 6.0)
    assert "ffn.2" in settings["target_modules"] and "self_attn.q" in settings["target_modules"]
    shapes = {name: tuple(value.shape) for name, value in plain.state_dict().items()}
    lora = open_lora(tmp_path / "adapter_model.safetensors", 1.0, shapes)
    assert len(lora.updates) == 20 and not lora.note
    state = plain.state_dict()
    for layer, update in lora.updates.items():
        weight = state[f"{layer}.weight"]
        state[f"{layer}.weight"] = update.apply(weight, 1.0, lora.alpha_of(layer))
    plain.load_state_dict(state)
    torch.testing.assert_close(answer(plain), answer(model), atol=1e-5, rtol=1e-5)
    assert (answer(plain) - answer(WanModel(SPEC))).abs().max() > 0.1


def test_a_network_with_adapters_can_be_copied(model):
    add_lora(model, LORA)
    other = copy.deepcopy(model)
    torch.nn.init.ones_(other.blocks[0].ffn[0].lora_B.weight)
    assert not torch.equal(answer(other), answer(model))


def test_an_adapter_of_a_narrow_layer_is_rounded_once(model):
    """Layer and update are added before they are rounded, as PEFT does."""
    model.to(torch.bfloat16)
    add_lora(model, LORA)
    layer = model.blocks[0].ffn[0]
    torch.nn.init.normal_(layer.lora_B.weight)
    x = torch.randn(5, 32, dtype=torch.bfloat16)
    update = LORA.alpha / LORA.rank * layer.lora_B(layer.lora_A(x.float()))
    plain = torch.nn.functional.linear(x, layer.weight, layer.bias)
    assert torch.equal(layer(x), (plain.float() + update).bfloat16())
