"""Linear layers whose weights lie as float8 (e4m3) with a scale per row: a byte a number, cast for every call.

Only the blocks' layers are held so: they are 98 % of a Wan 1.3B, and embeddings and head decide more than they weigh.
What a file holds in float8 already is held as it is, with the file's own scales: it is not rounded again.
The product stays in the type of the activations: multiplying in float8 would round these too, and was slower on an H200
(docs/memory.md).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FLOAT8 = torch.float8_e4m3fn
LARGEST = 448.0
"""The largest number of the type."""
SMALLEST = 2.0**-60
"""Scale of rows that are all zeros."""


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
        self.plain = bool((torch.frexp(scale.float())[0].abs() == 0.5).all())

    def forward(self, x: Tensor) -> Tensor:
        """Activations [... in] to [... out], in their own type."""
        # The weight is scaled, not the product: unscaled products leave the range of float16.
        wide = x.dtype if self.plain else torch.float32
        weight = self.weight.to(wide) * self.scale.to(wide)[:, None]
        return F.linear(x, weight.to(x.dtype), self.bias)


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A weight [out in] as float8 and the scale [out] of its rows: the least power of 2 that brings them within range.

    A power of 2 rounds nothing, and float8's error hardly depends on where in its range numbers lie.
    """
    wide = weight.float()
    scale = wide.abs().amax(1).div(LARGEST).clamp(min=SMALLEST).log2().ceil().exp2()
    return (wide / scale[:, None]).to(FLOAT8), scale


def hold_as_fp8(blocks: nn.Module) -> dict[str, Fp8Linear]:
    """Put `Fp8Linear` where `blocks` have linear layers, to be filled by a loader; returns these by name."""
    found = {n: Fp8Linear(module) for n, module in blocks.named_modules() if type(module) is nn.Linear}
    for name, layer in found.items():
        home, _, leaf = name.rpartition(".")
        setattr(blocks.get_submodule(home), leaf, layer)
    return found
