"""What Load Model can be asked for. Light, as every start of the host reads it: what opens files comes with a Run."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...gf_core.checkpoints.catalog import drivable
from . import files

DETECT = "detect"
PRECISIONS: dict[str, torch.dtype | None] = {
    "auto": None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp32": torch.float32,
    "fp8_e4m3fn": torch.float8_e4m3fn,
}


@dataclass(frozen=True)
class Request:
    """What Load Model was asked for; names as ComfyUI shows them."""

    model: str = files.BUILTIN
    """`built-in`, or a file of the model folders."""
    text_encoder: str = files.AUTO
    """`auto`, or a file of text_encoders."""
    vae: str = files.AUTO
    """`auto`, or a file of vae."""
    precision: str = "auto"
    """A key of PRECISIONS."""
    lora: str = files.NONE
    """`none`, or a file of loras."""
    lora_strength: float = 1.0
    """How much of the LoRA to add."""
    assume: str = DETECT
    """`detect`, or a catalogue id."""


def assume_choices() -> list[str]:
    """Values of an `assume` input: detect, then every kind of checkpoint that can be driven."""
    return [DETECT, *drivable()]
