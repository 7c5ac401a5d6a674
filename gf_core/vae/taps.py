"""Convolutions over three frames as sums over taps, and the pass in front of them, in Triton, for cards like Hopper's.

Frames lie with their channels last and a border of zeros, so what a tap sees is the same run of positions moved by a
number: a card fetches it as one block, without a copy of the input. What a program makes is fixed per width, nothing
is measured, so bits do not change from run to run. At widths up to 192 cuDNN is slower (docs/speed.md).
"""

from __future__ import annotations

import contextlib
import functools
import logging
from typing import Any, cast

import torch
import torch.nn.functional as F
import triton  # type: ignore[import-not-found]
import triton.language as tl  # type: ignore[import-not-found]
from torch import Tensor, nn
from triton.tools.tensor_descriptor import TensorDescriptor  # type: ignore[import-not-found]

log = logging.getLogger("grounded")
NAME = f"taps in Triton {triton.__version__}"
"""What decides their last bits, beside the card."""
DEPTH, SIDE = 3, 3
"""Taps in time and each way."""
TILES = {96: (128, 64, 32, 4, 4), 192: (128, 128, 64, 8, 3)}
"""By width: positions of a program, its channels in two parts (a part is a power of two), warps, steps loaded ahead."""
STEP = 32
"""Channels of a step of the sum, or twice as many."""
NORMED = 4096
"""Numbers that a program of the norm holds, padding to a power of two counted in."""

OFF = 0.1
"""Most that a trial of numbers about 1 may differ by: bfloat16 rounds by a third of it."""


def fits(layer: nn.Conv3d) -> bool:
    """Whether `conv` computes this layer."""
    return layer.kernel_size == (DEPTH, SIDE, SIDE) and layer.in_channels == layer.out_channels in TILES


@triton.jit
def _put(total, bias, aside, out, to, inside, n, ADD: tl.constexpr):
    total += tl.load(bias + n).to(tl.float32)[None]
    if ADD:
        total += tl.load(aside + to[:, None] + n[None], inside[:, None], 0).to(tl.float32)
    tl.store(out + to[:, None] + n[None], total.to(out.dtype.element_ty), inside[:, None])


@triton.jit
def _sum(
    source, low, high, bias, aside, out, frames, height, width,
    C: tl.constexpr, BM: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr, BK: tl.constexpr, ADD: tl.constexpr,
):  # fmt: skip
    first = tl.program_id(0) * BM
    line, picture = width + 2, (height + 2) * (width + 2)
    total, rest = tl.zeros((BM, LOW), tl.float32), tl.zeros((BM, HIGH), tl.float32)
    parts: tl.constexpr = C // BK
    for step in range(27 * parts):
        tap = step // parts
        shift = tap // 9 * picture + (tap // 3 % 3 - 1) * line + tap % 3 - 1
        seen = source.load([first + shift, step % parts * BK])
        total = tl.dot(seen, low.load([step * BK, 0]), total)
        rest = tl.dot(seen, high.load([step * BK, LOW]), rest)
    rows = first + tl.arange(0, BM)
    h, w = rows % picture // line - 1, rows % line - 1
    inside = (rows < frames * picture) & (h >= 0) & (h < height) & (w >= 0) & (w < width)
    to = ((rows // picture * height + h) * width + w).to(tl.int64) * C
    _put(total, bias, aside, out, to, inside, tl.arange(0, LOW), ADD)
    _put(rest, bias, aside, out, to, inside, LOW + tl.arange(0, HIGH), ADD)


@triton.jit
def _norm(source, gamma, out, rows, height, width, C: tl.constexpr, BC: tl.constexpr, BM: tl.constexpr):
    row, c = tl.program_id(0) * BM + tl.arange(0, BM), tl.arange(0, BC)
    line, picture = width + 2, (height + 2) * (width + 2)
    h, w = row % picture // line - 1, row % line - 1
    here, held = (row < rows)[:, None], (c < C)[None]
    inside = here & ((h >= 0) & (h < height) & (w >= 0) & (w < width))[:, None] & held
    at = ((row // picture * height + h) * width + w).to(tl.int64) * C
    x = tl.load(source + at[:, None] + c[None], inside, 0).to(tl.float32)
    x *= tl.rsqrt(tl.sum(x * x, 1) / C + 1e-12)[:, None] * tl.load(gamma + c, c < C, 0).to(tl.float32)[None]
    x = x.to(out.dtype.element_ty).to(tl.float32)
    tl.store(
        out + row.to(tl.int64)[:, None] * C + c[None],
        (x * tl.sigmoid(x)).to(out.dtype.element_ty),
        here & held,
    )


def taps_of(weight: Tensor) -> Tensor:
    """A weight `n c t h w` as `conv` reads it: `(t h w c) n`."""
    return weight.permute(2, 3, 4, 1, 0).reshape(-1, weight.shape[0]).contiguous()


def conv(run: Tensor, taps: Tensor, bias: Tensor, aside: Tensor | None = None) -> Tensor:
    """`1 c (past t) (1 h 1) (1 w 1)` with zeros around, and `taps_of` a weight -> `1 c t h w`, plus `aside`.

    Sums are of float32. All tensors lie with their channels last.
    """
    source = _lying(run)
    frames, height, width, channels = (
        len(source) - DEPTH + 1,
        source.shape[1] - 2,
        source.shape[2] - 2,
        len(bias),
    )
    positions, low, high, warps, stages = TILES[channels]
    block, program = STEP * (1 + (channels % (2 * STEP) == 0)), cast(Any, _sum)
    out = source.new_empty(frames, height, width, channels)
    with _on(run):
        program[(-(-frames * (height + 2) * (width + 2) // positions),)](
            TensorDescriptor.from_tensor(source.view(-1, channels), [positions, block]),
            TensorDescriptor.from_tensor(taps, [block, low]), TensorDescriptor.from_tensor(taps, [block, high]),
            bias, out if aside is None else _lying(aside), out, frames, height, width, channels, positions, low, high,
            block, aside is not None, num_warps=warps, num_stages=stages,
        )  # fmt: skip
    return out.permute(3, 0, 1, 2)[None]


def normed(x: Tensor, gamma: Tensor, out: Tensor) -> None:
    """RMS norm over the channels of `1 c t h w`, then SiLU, into `out`, `1 c t (1 h 1) (1 w 1)`, zeros around it."""
    source, place = _lying(x), _lying(out)
    _, height, width, channels = source.shape
    rows, block = place.numel() // channels, triton.next_power_of_2(channels)
    size, program = NORMED // block, cast(Any, _norm)
    with _on(x):
        program[(-(-rows // size),)](source, gamma, place, rows, height, width, channels, block, size)


def _lying(x: Tensor) -> Tensor:
    """`1 c t h w` as `t h w c`, as it lies in memory: no copy where channels are last."""
    return x[0].permute(1, 2, 3, 0).contiguous()


def _on(x: Tensor) -> contextlib.AbstractContextManager[object]:
    """Triton launches on the card that is current."""
    return torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext()


@functools.cache
def works(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether both give what torch gives, at every width; where not, one line says why.

    The first time on a computer each is compiled, a second or so for each width; then they are read from the disk.
    """
    rng = torch.Generator().manual_seed(0)
    try:
        for width in TILES:
            sizes = (1, width, 4, 8, 24), (width, width, DEPTH, SIDE, SIDE), (width,), (1, width, 2, 8, 24)
            x, weight, gamma, aside = (torch.randn(size, generator=rng).to(device, dtype) for size in sizes)
            x, aside = (y.contiguous(memory_format=torch.channels_last_3d) for y in (x, aside))
            weight /= (weight[0].numel()) ** 0.5
            size = (1, width, 4, 10, 26)
            run = torch.empty(size, device=device, dtype=dtype, memory_format=torch.channels_last_3d)
            normed(x, gamma, run)
            like = F.silu(F.normalize(x.float(), dim=1) * width**0.5 * gamma.float()[:, None, None, None]).to(
                dtype
            )
            wanted = F.conv3d(like.float(), weight.float(), gamma.float(), padding=(0, 1, 1))
            for short in (None, aside):
                made = conv(run, taps_of(weight), gamma, short)
                off = made.float() - (wanted if short is None else wanted + aside.float())
                if not float(off.abs().max()) < OFF:
                    raise ArithmeticError(f"{float(off.abs().max()):g} off at width {width}")
        return True
    except Exception as error:  # whatever a compiler stumbles over: it is left alone then
        why = (str(error).strip().splitlines() or [""])[0]
        log.warning("the VAE's convolutions are cuDNN's, which are slower: %s: %s", type(error).__name__, why)
        return False
