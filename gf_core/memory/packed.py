"""Keys and values in one byte a number: those of a token and head share a scale, which lies behind them.

What moves slots about moves the scales with them and need not know. 130 bytes in place of 256 (bfloat16, heads of 128);
eight bits with a scale per token and head err by a quarter of what float8 (e4m3) does (0.65 % and 2.6 % of normal
numbers, heads of 128).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .sizes import SCALE_BYTES

STEPS = 127
"""The largest whole number that a value becomes."""
SCALE = torch.float16
SMALLEST = 2.0**-24
"""The smallest scale that float16 holds, for tokens that are all zeros."""


def packed_width(width: int) -> int:
    """Bytes of `width` numbers and their scale."""
    return width + SCALE_BYTES


def is_packed(slots: Tensor) -> bool:
    """Whether slots hold packed numbers."""
    return slots.dtype == torch.int8


def width_of(slots: Tensor) -> int:
    """Numbers in the last axis of slots, packed or not."""
    return slots.shape[-1] - (SCALE_BYTES if is_packed(slots) else 0)


def pack(values: Tensor) -> Tensor:
    """Values [... d] as whole numbers and their scale, int8 [... d+2]; off by half of `max |x| / 127` at most."""
    wide = values.float()
    scale = wide.abs().amax(-1, keepdim=True).div_(STEPS).clamp_(min=SMALLEST).to(SCALE)
    # Divided by the scale as it is stored, so that rounding the scale costs nothing.
    # In place only in a copy: float32 values are the caller's.
    whole = wide.div_(scale.float()) if wide is not values else wide / scale.float()
    return torch.cat([whole.round_().clamp_(-STEPS, STEPS).to(torch.int8), scale.view(torch.int8)], -1)


def values_of(slots: Tensor) -> Tensor:
    """What slots hold: themselves, or packed ones [... d+2] as float32 [... d]."""
    if not is_packed(slots):
        return slots
    width = width_of(slots)
    return slots[..., :width] * slots[..., width:].contiguous().view(SCALE).float()


def fill(slots: Tensor, values: Tensor) -> None:
    """Put values [... d] into slots, packed where these are."""
    slots.copy_(pack(values) if is_packed(slots) else values)
