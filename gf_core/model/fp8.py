"""Linear layers whose weights lie as float8 (e4m3) with scales: a byte a number, cast for every call or multiplied so.

Only the blocks' layers are held so: they are 98 % of a Wan 1.3B, and embeddings and head decide more than they weigh.
What a file holds in float8 already is held as it is, with the file's own scales: it is not rounded again.
`Fp8Linear` multiplies in the type of the activations. `Fp8Product` multiplies in float8, which rounds these too: by a
fixed power of 2, as looking for the largest of each row costs more than the product spares (docs/speed.md).
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FLOAT8 = torch.float8_e4m3fn
LARGEST = 448.0
"""The largest number of the type."""
SMALLEST = 2.0**-60
"""Scale of rows that are all zeros."""


GAINS = {
    "self_attn.q": 1.0, "self_attn.k": 1.0, "self_attn.v": 1.0, "self_attn.o": 4.0,
    "cross_attn.q": 1.0, "cross_attn.o": 4.0, "ffn.0": 1.0, "ffn.2": 1.0,
}  # fmt: skip
"""What a block's activations are multiplied by before they are rounded, by the layer that takes them.

Normed tokens and what GELU leaves are about 1 and at most some hundreds; attention averages values, which makes them
smaller. Float8 has its full precision from 1/64 to 448. A prompt's keys and values are made once: not in float8.
"""


class Fp8Linear(nn.Module):
    """`nn.Linear` with `weight` [out in] in float8, and `scale` [out] in float32."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        rows, device = linear.out_features, linear.weight.device
        weight = torch.empty(rows, linear.in_features, device=device, dtype=FLOAT8)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.scale = nn.Parameter(torch.empty(rows, device=device), requires_grad=False)
        self.bias = linear.bias
        self.plain = True
        """All scales are powers of 2, by which numbers of any type are multiplied without rounding."""

    def fill(self, weight: Tensor, scale: Tensor) -> None:
        """Hold a weight [out in] in float8 and the scale [out] of its rows."""
        self.weight.data.copy_(weight)
        self.scale.data.copy_(scale)
        # In frexp's form a power of 2 has the mantissa 0.5.
        self.plain = bool((torch.frexp(scale.float())[0].abs() == 0.5).all())

    def forward(self, x: Tensor) -> Tensor:
        """Activations [... in] to [... out], in their own type."""
        # The weight is scaled, not the product: unscaled products leave the range of float16.
        wide = x.dtype if self.plain else torch.float32
        weight = self.weight.to(wide) * self.scale.to(wide)[:, None]
        return F.linear(x, weight.to(x.dtype), self.bias)


class Fp8Product(Fp8Linear):
    """The same, multiplied in float8 where a card can (elsewhere to the same rounding).

    Takes activations of the type of its bias, or already in float8, multiplied by `gain`; gives the type of its bias.
    `scale` undoes `gain` too.
    """

    def __init__(self, linear: nn.Linear, gain: float) -> None:
        super().__init__(linear)
        self.gain = gain
        self.whole = True
        """All rows have the same scale, which is faster for some shapes."""

    def fill(self, weight: Tensor, scale: Tensor) -> None:
        self.whole = bool((scale == scale[0]).all())
        super().fill(weight, scale.float() / self.gain)

    def forward(self, x: Tensor) -> Tensor:
        small = x if x.dtype == FLOAT8 else to_float8(x, self.gain)
        dtype = self.bias.dtype
        if not multiplies(x.device, dtype):
            return super().forward(small.to(dtype))
        small = small.flatten(0, -2)
        # The product wants a scale of either side: 1 for activations, as the weight's undoes their gain too.
        scales = (_ones(x.device, 1)[0], self.scale[:1])
        if not self.whole:
            scales = (_ones(x.device, len(small)), self.scale[None])
        made = torch.ops.aten._scaled_mm(
            small, self.weight.t(), *scales, bias=self.bias, out_dtype=dtype, use_fast_accum=True
        )
        return made.unflatten(0, x.shape[:-1])


def join(blocks: nn.Module) -> None:
    """Make one layer `qkv` of those of q, k and v in self-attention where they multiply in float8.

    At 1.3B that takes 0.058 ms on an H200 where three take 0.092.
    """
    # A list first: the walk over modules must not meet the layers that are put in.
    for attention in [module for name, module in blocks.named_modules() if name.endswith("self_attn")]:
        parts = [part for name in "qkv" if isinstance(part := getattr(attention, name, None), Fp8Product)]
        if len(parts) == len("qkv"):
            attention.qkv = _joined(parts)
            for name in "qkv":
                delattr(attention, name)


def _joined(parts: list[Fp8Product]) -> Fp8Product:
    first = parts[0]
    with first.weight.device:
        linear = nn.Linear(first.weight.shape[1], 3 * len(first.weight), dtype=first.bias.dtype)
    linear.bias = nn.Parameter(torch.cat([part.bias for part in parts]), requires_grad=False)
    whole = Fp8Product(linear, first.gain)
    weight, scale = (torch.cat([getattr(part, name) for part in parts]) for name in ("weight", "scale"))
    # `fill` divides by the gain, which the scales of the parts hold already.
    whole.fill(weight, scale * first.gain)
    return whole


def joint(attention: Any) -> Fp8Product | None:
    """What `join` made of an attention's layers."""
    made = attention._modules.get("qkv")  # `getattr` takes five times as long to find nothing, in every block
    return made if isinstance(made, Fp8Product) else None


def gain_of(layer: Any) -> float | None:
    """What activations are multiplied by that a layer takes in float8; None where it takes them as they are."""
    return layer.gain if isinstance(layer, Fp8Product) else None


def to_float8(x: Tensor, gain: float) -> Tensor:
    """x * gain in float8; what is too large becomes the largest number."""
    return (x * gain).clamp(-LARGEST, LARGEST).to(FLOAT8)


@functools.cache
def multiplies(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether products of float8 that end in `dtype` are computed there as such."""
    if device.type != "cuda" or torch.version.hip or dtype not in (torch.bfloat16, torch.float16):
        return False
    return torch.cuda.get_device_capability(device) >= (8, 9)


@functools.cache
def _ones(device: torch.device, rows: int) -> Tensor:
    return torch.ones(rows, 1, device=device)


def quantise(weight: Tensor, *, whole: bool = False) -> tuple[Tensor, Tensor]:
    """A weight [out in] as float8 and the scale [out] of its rows: the least power of 2 that brings them within range.

    A power of 2 rounds nothing, and float8's error hardly depends on where in its range numbers lie. whole: one scale
    for all rows.
    """
    wide = weight.float()
    most = wide.abs().amax(1)
    most = most.amax().expand_as(most) if whole else most
    scale = most.div(LARGEST).clamp(min=SMALLEST).log2().ceil().exp2()
    return (wide / scale[:, None]).to(FLOAT8), scale


def hold_as_fp8(blocks: nn.Module, products: bool = False) -> dict[str, Fp8Linear]:
    """Put `Fp8Linear` where `blocks` have linear layers, to be filled by a loader; returns these by name.

    products: `Fp8Product` where `GAINS` says so.
    """
    found = dict[str, Fp8Linear]()
    for name, module in blocks.named_modules():
        if type(module) is nn.Linear:
            gain = GAINS.get(name.partition(".")[2]) if products else None  # without the block's number
            found[name] = Fp8Linear(module) if gain is None else Fp8Product(module, gain)
    # Only now, as the walk above must not meet them.
    for name, layer in found.items():
        home, _, leaf = name.rpartition(".")
        setattr(blocks.get_submodule(home), leaf, layer)
    return found
