"""Low-rank adapters, trained in place of a frozen network (LoRA, arXiv 2106.09685), in PEFT's names and files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..files.atomic import write_json
from ..files.pieces import write_tensors
from .state import gathered, replacing

PREFIX = "base_model.model."
"""What PEFT puts before a module's name."""


@dataclass(frozen=True)
class LoraSpec:
    """Size of the adapters; the defaults are LongLive's, which has one on every linear layer of every block."""

    rank: int = 256
    alpha: float = 256.0
    """The update is scaled by alpha / rank."""


def add_lora(model: nn.Module, spec: LoraSpec) -> None:
    """Freeze `model` and hang an adapter on every linear layer of its blocks; at first it changes nothing.

    Parameters keep their names; those of an adapter are `<layer>.lora_A.weight` [rank in] and `<layer>.lora_B.weight`
    [out rank].
    """
    model.requires_grad_(False)
    layers = [m for n, m in model.named_modules() if "blocks." in n and isinstance(m, nn.Linear)]
    for layer in layers:
        like: Any = {"device": layer.weight.device, "dtype": torch.float32, "bias": False}
        down = nn.Linear(layer.in_features, spec.rank, **like)
        up = nn.Linear(spec.rank, layer.out_features, **like)
        nn.init.kaiming_uniform_(down.weight, a=math.sqrt(5))
        nn.init.zeros_(up.weight)
        layer.add_module("lora_A", down)
        layer.add_module("lora_B", up)
        layer.register_forward_hook(_Update(spec.alpha / spec.rank))


class _Update:
    """Adds a layer's adapter to what it gives; a class, so that networks can be copied and sent to processes."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __call__(self, layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        x = inputs[0].to(layer.lora_A.weight.dtype)
        made = output + self.scale * layer.lora_B(layer.lora_A(x))
        return made.to(output.dtype)  # rounded once, as PEFT's


def save_lora(values: Mapping[str, Tensor], spec: LoraSpec, folder: Path, *, first: bool = True) -> None:
    """Write adapters, such as those of `run.average.values`, as PEFT does; every rank must call, the first writes."""
    whole = gathered({PREFIX + name: value for name, value in values.items() if ".lora_" in name})
    if not first:
        return
    layers = sorted({name.removeprefix(PREFIX).rpartition(".lora_")[0].split(".", 2)[2] for name in whole})
    settings = {"peft_type": "LORA", "r": spec.rank, "lora_alpha": spec.alpha, "target_modules": layers}
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "adapter_config.json", settings)
    with replacing(folder / "adapter_model.safetensors") as part:
        write_tensors(part, whole, {"format": "pt"})
