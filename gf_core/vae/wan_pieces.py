"""What the Wan VAE's decoder does between its convolutions: norms, SiLU, biases, sums; one by one or fused.

`Pieces` does it as diffusers writes it, `Card` with the channels last, and `Fused` has each run of operations compiled
into one pass over the positions, to which a convolution also leaves its bias. Fused ones sum in another order and round
once, so that the last bits differ.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Compile = Callable[[Callable[..., Any]], Callable[..., Any]]
EPS = 1e-12
"""As in the source's `F.normalize`, where the smallest norm is as much."""


@dataclass(frozen=True)
class Part:
    """What a stage made, and what of it is left to whoever takes it."""

    values: Tensor
    """`1 c t h w`."""
    bias: Tensor | None = None
    """Still to be added to every position, `c`."""

    def whole(self) -> Tensor:
        """The values, once and for all: the bias is added in place."""
        return self.values if self.bias is None else self.values.add_(self.bias[:, None, None, None])


class Pieces:
    """Operation by operation, to the bits of diffusers' own forward on a processor."""

    channels_last = False
    """How tensors lie."""
    name = ""
    """What decides the last bits beside device and library; empty where nothing does."""

    def convolve(self, layer: Any, x: Tensor, border: int = 0) -> Part:
        """A convolution of `1 c t h w`, or of pictures `t c h w`, whose space is padded by so much."""
        return Part(_convolved(layer, x, border, layer.bias))

    def fill(self, place: Tensor, x: Part, norm: Any) -> None:
        """Put what `norm` and SiLU make of `x` into its place."""
        # In one stretch: a processor rounds the ends of short rows otherwise.
        place.copy_(F.silu(self._normed(norm, x.whole()), inplace=True))

    def added(self, x: Part, aside: Part) -> Part:
        """The sum at a residual block's end."""
        return Part(x.whole() + aside.whole())

    def _normed(self, norm: Any, x: Tensor) -> Tensor:
        """RMS norm over the channels of every position of `1 c t h w`."""
        exact = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        return F.normalize(exact, dim=1).to(x.dtype).mul_(norm.scale).mul_(norm.gamma)


PLAIN = Pieces()


class Card(Pieces):
    """Operation by operation, with the channels last, as a card's convolutions want them, and torch's fused norm."""

    channels_last = True

    def fill(self, place: Tensor, x: Part, norm: Any) -> None:
        torch.ops.aten.silu.out(self._normed(norm, x.whole()), out=place)

    def _normed(self, norm: Any, x: Tensor) -> Tensor:
        gamma = norm.gamma.flatten()
        # The source's `F.normalize` times sqrt(c), in one pass.
        return F.rms_norm(x.movedim(1, -1), gamma.shape, gamma, EPS).movedim(-1, 1)


CARD = Card()


class Fused(Pieces):
    """Each run of operations in one pass, made by `compile`, with the channels last.

    A pass takes rows of channels and always a bias, so that there are few shapes to compile: twenty for a film's size.
    """

    channels_last = True

    def __init__(self, compile: Compile, name: str) -> None:
        self.name = name
        self._fill, self._add = compile(_fill), compile(_added)
        self._none: dict[tuple[int, torch.dtype, torch.device], Tensor] = {}

    def convolve(self, layer: Any, x: Tensor, border: int = 0) -> Part:
        # Detached: a parameter would be compiled for apart from a tensor.
        return Part(_convolved(layer, x, border, None), layer.bias.detach())

    def fill(self, place: Tensor, x: Part, norm: Any) -> None:
        there = place.movedim(1, -1)
        self._fill(*self._rows(x), norm.gamma.detach().flatten(), there.view(-1, there.shape[-1]))

    def added(self, x: Part, aside: Part) -> Part:
        _, _, *size = x.values.shape
        total = self._add(*self._rows(x), *self._rows(aside))
        return Part(total.unflatten(0, (1, *size)).movedim(-1, 1))

    def _rows(self, x: Part) -> tuple[Tensor, Tensor]:
        """Values `(t h w) c` and a bias `c`."""
        channels = x.values.shape[1]
        # Nothing is copied on a card; a processor's convolutions give planes.
        rows = x.values.movedim(1, -1).reshape(-1, channels).contiguous()
        if x.bias is not None:
            return rows, x.bias
        key = channels, rows.dtype, rows.device
        if key not in self._none:
            self._none[key] = rows.new_zeros(channels)
        return rows, self._none[key]


@functools.cache
def fused(compile: Compile, name: str) -> Fused:
    """The same object for the same compiler, so that nothing is compiled twice."""
    return Fused(compile, name)


def _convolved(layer: Any, x: Tensor, border: int, bias: Tensor | None) -> Tensor:
    if isinstance(layer, nn.Conv2d):
        return F.conv2d(x, layer.weight, bias, padding=border)
    return F.conv3d(x, layer.weight, bias, padding=(0, border, border))


def _fill(x: Tensor, bias: Tensor, gamma: Tensor, place: Tensor) -> None:
    wide = x.float() + bias
    normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + EPS) * gamma
    place.copy_(F.silu(normed))


def _added(x: Tensor, bias: Tensor, aside: Tensor, bias_aside: Tensor) -> Tensor:
    return ((x.float() + bias) + (aside.float() + bias_aside)).type_as(x)
