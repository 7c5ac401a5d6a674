"""A tiny random Wan and the ways in which checkpoints of it are wrapped."""

import json

import pytest
import torch

from gf_core.checkpoints.keymaps import COMFYUI_PREFIX, original_to_diffusers, rename
from gf_core.config import ModelSpec
from gf_core.model.wan import WanModel

HEADER = {"model": {"num_heads": 2, "text_len": 16}}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GROUNDED_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def spec() -> ModelSpec:
    return ModelSpec(dim=256, ffn_dim=96, num_heads=2, num_layers=2, text_len=512, text_dim=24, freq_dim=32)


@pytest.fixture(scope="session")
def state(spec):
    torch.manual_seed(0)
    return {name: value.detach().clone() for name, value in WanModel(spec).state_dict().items()}


@pytest.fixture
def wrap(state):
    """Wraps the tiny state dict as `kind` of checkpoint and returns the object to save."""

    def build(kind: str):
        other = {name: torch.zeros_like(value) for name, value in state.items()}
        with_model = {f"model.{name}": value for name, value in state.items()}
        fsdp = {f"model._fsdp_wrapped_module.{name}": value for name, value in state.items()}
        inner = {n.replace("self_attn.", "_orig_mod.self_attn."): v for n, v in fsdp.items()}
        zeros = {f"model.{name}": value for name, value in other.items()}
        return {
            "original": dict(state),
            "model_prefix": with_model,
            "comfyui": {COMFYUI_PREFIX + name: value for name, value in state.items()},
            "comfyui_all_in_one": {
                **{COMFYUI_PREFIX + name: value for name, value in state.items()},
                "first_stage_model.conv1.weight": torch.zeros(2),
                "cond_stage_model.shared.weight": torch.zeros(2),
            },
            "diffusion_model": {f"diffusion_model.{name}": value for name, value in state.items()},
            "diffusers": rename(state, original_to_diffusers),
            "generator": {"generator": with_model, "critic": zeros, "step": 12},
            "generator_ema": {"generator": zeros, "generator_ema": with_model},
            "fsdp": {"generator_ema": fsdp, "optimizer": {"state": {}, "lr": 0.1}},
            "compiled": {"generator_ema": inner},
            "state_dict": {"state_dict": with_model},
            "model": {"model": dict(state)},
            "dotted": {
                **{f"generator_ema.model.{name}": value for name, value in state.items()},
                **{f"generator.model.{name}": value for name, value in other.items()},
            },
        }[kind]

    return build


@pytest.fixture(scope="session")
def own_header():
    return {"grounded": json.dumps(HEADER)}
