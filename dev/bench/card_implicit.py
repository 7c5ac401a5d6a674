"""Convolutions of the Wan decoder as sums over taps in Triton: pixels times a tap's weights, no copy of the input.

Frames lie as `t h w c`, past in front, with a border of one that is 0: so a tap is the same run of pixels, moved by a
number. Nothing that is measured decides how a sum is ordered.
"""

from __future__ import annotations

import triton  # type: ignore[import-not-found]
import triton.language as tl  # type: ignore[import-not-found]
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor  # type: ignore[import-not-found]


@triton.jit
def _put(total, bias, aside, out, to, inside, n, N: tl.constexpr, ADD: tl.constexpr):
    held = inside[:, None] & (n < N)[None]
    total += tl.load(bias + n, n < N, 0).to(tl.float32)[None]
    if ADD:
        total += tl.load(aside + to[:, None] + n[None], held, 0).to(tl.float32)
    tl.store(out + to[:, None] + n[None], total.to(out.dtype.element_ty), held)


@triton.jit
def _conv(
    source, weight, more, bias, aside, out, frames, height, width,
    C: tl.constexpr, N: tl.constexpr, KT: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    MORE: tl.constexpr, ADD: tl.constexpr,
):  # fmt: skip
    """MORE: channels besides BN, as tiles are powers of two and widths are three times one."""
    tiles_n: tl.constexpr = (N + BN + MORE - 1) // (BN + MORE)
    place = tl.program_id(0)
    n0, first = place % tiles_n * (BN + MORE), place // tiles_n * BM
    line, picture = width + 2, (height + 2) * (width + 2)
    total = tl.zeros((BM, BN), tl.float32)
    if MORE:
        second = tl.zeros((BM, MORE), tl.float32)
    parts: tl.constexpr = C // BK
    for step in range(KT * 9 * parts):
        tap = step // parts
        shift = tap // 9 * picture + (tap // 3 % 3 - 1) * line + tap % 3 - 1
        pixels = source.load([first + shift, step % parts * BK])
        total = tl.dot(pixels, weight.load([step * BK, n0]), total)
        if MORE:
            second = tl.dot(pixels, more.load([step * BK, n0 + BN]), second)
    rows = first + tl.arange(0, BM)
    h, w = rows % picture // line - 1, rows % line - 1
    inside = (rows < frames * picture) & (h >= 0) & (h < height) & (w >= 0) & (w < width)
    to = ((rows // picture * height + h) * width + w) * N
    _put(total, bias, aside, out, to, inside, n0 + tl.arange(0, BN), N, ADD)
    if MORE:
        _put(second, bias, aside, out, to, inside, n0 + BN + tl.arange(0, MORE), N, ADD)


@triton.jit
def _conv_rows(
    source, weight, bias, aside, out, frames, height, width,
    C: tl.constexpr, N: tl.constexpr, KT: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    ADD: tl.constexpr,
):  # fmt: skip
    """The same with pointers, a run of pixels a program."""
    tiles_n = tl.cdiv(N, BN)
    place = tl.program_id(0)
    rows, n = place // tiles_n * BM + tl.arange(0, BM), place % tiles_n * BN + tl.arange(0, BN)
    known = rows < frames * height * width
    w, h = rows % width, rows // width % height
    total = tl.zeros((BM, BN), tl.float32)
    k = tl.arange(0, BK)
    parts: tl.constexpr = C // BK
    for step in range(KT * 9 * parts):
        tap, c0 = step // parts, step % parts * BK
        dh, dw = tap // 3 % 3 - 1, tap % 3 - 1
        inside = known & (h + dh >= 0) & (h + dh < height) & (w + dw >= 0) & (w + dw < width)
        at = (rows + (tap // 9 * height + dh) * width + dw) * C + c0
        pixels = tl.load(source + at[:, None] + k[None], inside[:, None], 0)
        taps = tl.load(weight + (step * BK + k)[:, None] * N + n[None], (n < N)[None], 0)
        total = tl.dot(pixels, taps, total)
    _put(total, bias, aside, out, rows * N, known, n, N, ADD)


@triton.jit
def _lay(
    source, gamma, out, rows, height, width, border, C: tl.constexpr, BC: tl.constexpr, BM: tl.constexpr
):
    row, c = tl.program_id(0) * BM + tl.arange(0, BM), tl.arange(0, BC)
    inside = (row < rows)[:, None] & (c < C)[None]
    x = tl.load(source + row[:, None] * C + c[None], inside, 0).to(tl.float32)
    x *= tl.rsqrt(tl.sum(x * x, 1) / C + 1e-12)[:, None]
    x *= tl.load(gamma + c, c < C, 0).to(tl.float32)[None]
    x = x.to(out.dtype.element_ty).to(tl.float32)
    h, w = row // width % height + border, row % width + border
    to = (row // (width * height) * (height + 2 * border) + h) * (width + 2 * border) + w
    tl.store(out + to[:, None] * C + c[None], (x * tl.sigmoid(x)).to(out.dtype.element_ty), inside)


Tile = tuple[int, int, int, int, int]
"""Pixels and channels of a program, channels besides, warps, steps of its sum that are loaded ahead."""
TILES: dict[int, tuple[Tile, ...]] = {
    384: ((128, 128, 0, 8, 4), (256, 128, 0, 8, 3), (128, 256, 0, 8, 3)),
    192: ((128, 128, 64, 8, 3), (256, 64, 0, 8, 4), (128, 64, 0, 4, 4)),
    96: ((256, 64, 32, 8, 4), (128, 64, 32, 4, 4), (256, 128, 0, 8, 4)),
}
"""By the channels that come out."""


def taps_of(weight: Tensor) -> Tensor:
    """`n c t h w` -> `(t h w c) n`, a tap's channels side by side."""
    return weight.permute(2, 3, 4, 1, 0).reshape(-1, weight.shape[0]).contiguous()


def conv(
    source: Tensor, taps: Tensor, bias: Tensor, aside: Tensor | None = None, tile: Tile = TILES[384][0]
) -> Tensor:
    """`(past t) (1 h 1) (1 w 1) c`, 0 at the border, by `taps_of` weights -> `t h w n`, plus `aside`."""
    channels, outputs = source.shape[-1], taps.shape[1]
    depth = len(taps) // channels // 9
    frames, height, width = len(source) - depth + 1, source.shape[1] - 2, source.shape[2] - 2
    (bm, bn, more, warps, stages), bk = tile, 64 if channels % 64 == 0 else 32
    out = source.new_empty(frames, height, width, outputs)
    rows = source.view(-1, channels)
    grid = -(-frames * (height + 2) * (width + 2) // bm) * -(-outputs // (bn + more))
    _conv[(grid,)](
        TensorDescriptor.from_tensor(rows, [bm, bk]), TensorDescriptor.from_tensor(taps, [bk, bn]),
        TensorDescriptor.from_tensor(taps, [bk, more or bn]), bias, out if aside is None else aside, out, frames,
        height, width, channels, outputs, depth, bm, bn, bk, more, aside is not None, num_warps=warps,
        num_stages=stages,
    )  # fmt: skip
    return out


def conv_rows(
    source: Tensor, taps: Tensor, bias: Tensor, aside: Tensor | None = None, tile: Tile = TILES[384][0]
) -> Tensor:
    """`conv` with pointers."""
    channels, outputs = source.shape[-1], taps.shape[1]
    depth = len(taps) // channels // 9
    frames, height, width = len(source) - depth + 1, *source.shape[1:3]
    (bm, bn, _, warps, stages), bk = tile, 64 if channels % 64 == 0 else 32
    out = source.new_empty(frames, height, width, outputs)
    _conv_rows[(-(-frames * height * width // bm) * -(-outputs // bn),)](
        source, taps, bias, out if aside is None else aside, out, frames, height, width, channels, outputs, depth, bm,
        bn, bk, aside is not None, num_warps=warps, num_stages=stages,
    )  # fmt: skip
    return out


def lay(x: Tensor, gamma: Tensor, out: Tensor) -> None:
    """RMS norm and SiLU of `t h w c` into `out`, which may have a border of one."""
    _, height, width, channels = x.shape
    rows, block = x.numel() // channels, triton.next_power_of_2(channels)
    size, border = max(1, 4096 // block), (out.shape[1] - height) // 2
    _lay[(-(-rows // size),)](x, gamma, out, rows, height, width, border, channels, block, size)
