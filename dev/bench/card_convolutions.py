"""Convolutions of the Wan decoder at 832x480, each in every way that it may be computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from card_place import Place, timed
from torch import Tensor


class Conv(NamedTuple):
    inputs: int
    outputs: int
    frames: int
    height: int
    width: int
    depth: int = 3
    """Taps in time."""
    side: int = 3
    """Taps each way."""
    calls: int = 1
    """Of this shape per latent frame."""

    @property
    def work(self) -> int:
        taps = self.depth * self.side**2
        return 2 * taps * self.inputs * self.outputs * self.frames * self.height * self.width


FULL = (
    Conv(96, 96, 4, 480, 832, calls=6), Conv(192, 192, 4, 240, 416, calls=6), Conv(384, 384, 2, 120, 208, calls=5),
    Conv(384, 384, 3, 60, 104, calls=10), Conv(192, 384, 2, 120, 208), Conv(96, 3, 4, 480, 832),
    Conv(192, 96, 4, 480, 832, 1), Conv(384, 192, 4, 240, 416, 1), Conv(384, 192, 2, 120, 208, 1),
    Conv(384, 768, 2, 120, 208, 3, 1), Conv(384, 768, 3, 60, 104, 3, 1), Conv(96, 96, 12, 480, 832),
)  # fmt: skip
"""The most work first; the last asks whether more frames a call go faster."""
TINY = (Conv(8, 8, 2, 12, 20), Conv(8, 4, 2, 12, 20, 1), Conv(8, 16, 2, 6, 10, 3, 1))
CHOSEN = 5
"""Of so many shapes cuDNN's own choice by measuring is tried too, which takes seconds."""

Way = Callable[[], Tensor]


def convolutions(place: Place) -> None:
    """Decides, per shape, in which layout and by whom the decoder's convolutions are computed.

    The first way of a row is what films use today (channels last). `folded` gathers the taps in time into channels and
    is a 2-D convolution, `three` adds one of each tap. Triton's is `card_implicit`: if it wins by a third in the first
    three shapes, which are 87 % of the work, the decoder gets it.
    """
    shapes = TINY if place.dry else FULL
    inputs = {shape: _inputs(place, shape) for shape in shapes[:CHOSEN]}
    for shape in shapes:
        _tell(place, shape, {**_ways(shape, *(inputs.get(shape) or _inputs(place, shape)))})
    for shape in shapes[:3]:
        _tell(place, shape, _triton(place, shape, *inputs[shape]))
    torch.backends.cudnn.benchmark = True
    for shape in shapes[:CHOSEN]:
        ways = _ways(shape, *inputs[shape])
        _tell(
            place,
            shape,
            {f"{name}, measured choice": ways[name] for name in ("last", "folded") if name in ways},
        )


def _inputs(place: Place, shape: Conv) -> tuple[Tensor, Tensor, Tensor]:
    """Frames `(past t) h w c`, a weight `n c t h w` and a bias."""
    torch.manual_seed(0)
    made: dict[str, Any] = {"device": place.device, "dtype": place.dtype}
    size = shape.frames + shape.depth - 1, shape.height, shape.width, shape.inputs
    taps = shape.depth * shape.side**2
    weight = torch.randn(shape.outputs, shape.inputs, shape.depth, shape.side, shape.side, **made)
    return (
        torch.randn(size, **made),
        weight / (taps * shape.inputs) ** 0.5,
        torch.randn(shape.outputs, **made),
    )


def _ways(shape: Conv, x: Tensor, weight: Tensor, bias: Tensor) -> dict[str, Way]:
    border, last = shape.side // 2, torch.channels_last_3d
    lying, heavy = x.permute(3, 0, 1, 2)[None], weight.contiguous(memory_format=last)
    planes = lying.contiguous()
    taps = [part[:, :, 0].contiguous(memory_format=torch.channels_last) for part in weight.split(1, 2)]
    flat = torch.cat(taps, 1).contiguous(memory_format=torch.channels_last)
    frames, depth = shape.frames, shape.depth
    pictures = x.permute(0, 3, 1, 2)

    def over(tap: int) -> Tensor:
        return pictures[tap : tap + frames]

    def fold() -> Tensor:
        return torch.cat([x[tap : tap + frames] for tap in range(depth)], -1)

    def folded() -> Tensor:
        return F.conv2d(fold().permute(0, 3, 1, 2), flat, bias, padding=border)

    def three() -> Tensor:
        made = F.conv2d(over(0), taps[0], bias, padding=border)
        for tap in range(1, depth):
            made += F.conv2d(over(tap), taps[tap], padding=border)
        return made

    ways: dict[str, Way] = {
        "last": lambda: F.conv3d(lying, heavy, bias, padding=(0, border, border)),
        "planes": lambda: F.conv3d(planes, weight, bias, padding=(0, border, border)),
        "folded": folded,
    }
    if depth > 1:
        ready = fold().permute(0, 3, 1, 2)
        ways["folded alone"] = lambda: F.conv2d(ready, flat, bias, padding=border)
        ways["three"] = three
    return ways


def _triton(place: Place, shape: Conv, x: Tensor, weight: Tensor, bias: Tensor) -> dict[str, Way]:
    if place.dry:
        return {}
    import card_implicit as implicit

    padded, taps = F.pad(x, (0, 0, 1, 1, 1, 1)), implicit.taps_of(weight)
    ways = {"last": _ways(shape, x, weight, bias)["last"]}
    for tile in implicit.TILES.get(shape.outputs, ()):
        ways[f"Triton {tile}"] = lambda tile=tile: implicit.conv(padded, taps, bias, tile=tile).permute(
            0, 3, 1, 2
        )
    tile = implicit.TILES[384][0]
    ways["Triton with pointers"] = lambda: implicit.conv_rows(x, taps, bias, tile=tile).permute(0, 3, 1, 2)
    return ways


def _tell(place: Place, shape: Conv, ways: dict[str, Way]) -> None:
    taps = f"{shape.depth}x{shape.side}x{shape.side}"
    name = f"{shape.inputs}->{shape.outputs} {taps} {shape.frames}@{shape.width}x{shape.height}"
    told, truth = [], None
    for way, call in ways.items():
        try:
            made = call()
            made = made[0].transpose(0, 1) if made.ndim == 5 else made
            truth = made if truth is None else truth
            off = (made[:1] - truth[:1]).abs().max().item()
            del made
            seconds = timed(call, place.device, 5)
            place.keep(f"{name}, {way}", seconds)
            told.append(
                f"{way} {shape.work / seconds / 1e12:.0f}" + (f" (off {off:.2g})" if off > 0.1 else "")
            )
        except Exception as error:  # a way may not exist here
            told.append(f"{way}: {type(error).__name__} {str(error).strip()[:60]}")
    if told:
        note = "" if "measured" in told[0] else f"{shape.calls * shape.work / 1e12:.2f} TFLOP a latent frame"
        place.tell(name, "TFLOP/s: " + ", ".join(told), note)
