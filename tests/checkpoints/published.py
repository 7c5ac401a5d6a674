"""Files laid out as their authors publish them, at tiny size: true names, keys, wrapping, file name and folders.

`build(row, root)` writes the file of one row of the catalogue and returns its path; `plain(row)` are the same weights
with nothing around them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from gf_core.checkpoints.catalog import KnownCheckpoint, by_id
from gf_core.checkpoints.keymaps import original_to_diffusers, rename
from gf_core.config import ModelSpec
from gf_core.model.wan import WanModel
from gf_core.vae.base import StreamDecoder

SPEC = ModelSpec(dim=128, ffn_dim=96, num_heads=1, num_layers=1, text_len=512, text_dim=24, freq_dim=32)
CONFIG = {"_class_name": "WanTransformer3DModel", "num_attention_heads": 1, "attention_head_dim": 128}
_TARGETS = ("blocks.0.self_attn.q", "blocks.0.ffn.2")
"""Modules that the LoRAs of published pairs change, for us."""
Weights = dict[str, Tensor]


class Text:
    """Stands for a text encoder, which nothing asks."""

    fingerprint = "text"

    def encode(self, prompts: Sequence[str]) -> list[Tensor]:
        raise NotImplementedError


class Codec:
    """Stands for a codec, which nothing asks."""

    channels, spatial_stride, time_stride, fingerprint = 16, 8, 4, "codec"

    def encode(self, frames: Tensor) -> Tensor:
        raise NotImplementedError

    def decoder(self) -> StreamDecoder:
        raise NotImplementedError


def row_of(name: str) -> KnownCheckpoint:
    """The row called `name`, which there is."""
    row = by_id(name)
    assert row is not None
    return row


@cache
def _random(seed: int, channels: int) -> Weights:
    torch.manual_seed(seed)
    spec = replace(SPEC, in_dim=channels, out_dim=channels)
    return {name: value.detach().clone() for name, value in WanModel(spec).state_dict().items()}


def plain(row: KnownCheckpoint) -> tuple[Weights, Weights | None]:
    """What the network of a row holds, LoRA merged, and its second set where it has one."""
    weights = dict(_random(1, row.channels))
    for name, (down, up) in _halves(row).items():
        weights[f"{name}.weight"] = weights[f"{name}.weight"] + up @ down
    if row.packed == "fp8":
        weights = {name: _fp8_and_back(name, value) for name, value in weights.items()}
    return weights, dict(_random(2, row.channels)) if row.writer else None


def build(row: KnownCheckpoint, root: Path, name: str | None = None) -> Path:
    """Writes the file of `row` (called `name` in place of its own) into its repository's folder under `root`."""
    weights = dict(_random(1, row.channels))
    if row.writer:
        weights |= {_of_second(key): value for key, value in _random(2, row.channels).items()}
    weights = _packed(weights, row.packed) if row.packed else weights
    if row.scheme == "diffusers":
        weights = rename(weights, original_to_diffusers)
    weights = {row.inner + key: value.clone() for key, value in weights.items()}
    home = root / row.repository
    path = home / (row.file if name is None else Path(row.file).with_name(name))
    if row.file.endswith("/"):
        return _folder(path, weights).parent
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(weights, path)
    else:
        torch.save(_grouped(row, weights), path)
    if row.lora:
        halves = {
            f"base_model.model.{module}.lora_{side}.weight": half
            for module, both in _halves(row).items()
            for side, half in zip("AB", both)
        }
        torch.save({"generator_lora": halves}, path.with_name(row.lora))
    return path


def _grouped(row: KnownCheckpoint, weights: Weights) -> dict:
    """Under its outer keys; of two the one that is not to be taken holds zeros."""
    if not row.groups:
        return weights
    taken = row.outer or row.groups[0]
    zeros = {name: torch.zeros_like(value) for name, value in weights.items()}
    critic = {"critic": {name: value[:1] for name, value in zeros.items() if value.ndim == 1}, "step": 600}
    return {group: weights if group == taken else zeros for group in row.groups} | critic


def _folder(path: Path, weights: Weights) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    save_file(weights, path / "diffusion_pytorch_model.safetensors")
    (path / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    (path.parent / "model_index.json").write_text('{"_class_name": "WanPipeline"}', encoding="utf-8")
    return path


def _of_second(name: str) -> str:
    """What a tensor of the second set is called: `memory_` before its module at the top, else before its last part."""
    if not name.startswith("blocks."):
        return f"memory_{name}"
    front, _, last = name.rpartition(".")
    return f"{front}.memory_{last}"


def _halves(row: KnownCheckpoint) -> dict[str, tuple[Tensor, Tensor]]:
    """Down and up of each module that the row's LoRA changes, of rank 4."""
    if not row.lora:
        return {}
    make = torch.Generator().manual_seed(3)
    shapes = {name: _random(1, row.channels)[f"{name}.weight"].shape for name in _TARGETS}
    return {
        name: (torch.randn(4, wide, generator=make) / 50, torch.randn(tall, 4, generator=make) / 50)
        for name, (tall, wide) in shapes.items()
    }


def _is_packed(name: str, value: Tensor) -> bool:
    return name.startswith("blocks.") and value.ndim == 2


def _fp8(value: Tensor) -> tuple[Tensor, Tensor]:
    """Row-wise: the largest of a row is the largest that e4m3 can hold."""
    scale = value.abs().amax(1, keepdim=True) / 448
    return (value / scale).to(torch.float8_e4m3fn), scale


def _fp8_and_back(name: str, value: Tensor) -> Tensor:
    if not _is_packed(name, value):
        return value
    small, scale = _fp8(value)
    return small.float() * scale


def _packed(weights: Weights, kind: str) -> Weights:
    """LightX2V's layout: a `weight_scale` beside each packed `weight`; NVFP4 has one scale for all besides."""
    out: Weights = {}
    for name, value in weights.items():
        if not _is_packed(name, value):
            out[name] = value.bfloat16() if kind == "nvfp4" else value
        elif kind == "fp8":
            out[name], out[f"{name}_scale"] = _fp8(value)
        else:
            out[name] = torch.zeros(value.shape[0], value.shape[1] // 2, dtype=torch.uint8)
            out[f"{name}_scale"] = torch.ones(value.shape[0], value.shape[1] // 16).to(torch.float8_e4m3fn)
            out[f"{name}_global_scale"] = torch.ones(())
            out[name.replace(".weight", ".input_global_scale")] = torch.ones(())
    return out
