"""RGB arrays to encoder frames and back: whole-number upscale, even sizes, BT.709 limited range."""

from __future__ import annotations

import enum
from fractions import Fraction
from itertools import pairwise, product

import av
import numpy as np
from av.filter import Graph
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from PIL import Image

PREVIEW_SIDE = 256
"""Longest side of a preview picture in pixels."""
BT709 = 1
"""Code of BT.709 for primaries and transfer in every codec (ISO/IEC 23091-2)."""


def _exact(how: Interpolation) -> Interpolation:
    """`how` with exact rounding and full chroma where this PyAV can combine flags (15 and later)."""
    if not issubclass(Interpolation, enum.Flag):
        return how
    return how | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP | Interpolation.FULL_CHR_H_INT


def upscaled(frame: np.ndarray, factor: int) -> np.ndarray:
    """`frame` uint8 [H W 3] -> uint8 [H*factor W*factor 3]."""
    if factor == 1:
        return frame
    size = (frame.shape[1] * factor, frame.shape[0] * factor)
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS))


def even_size(width: int, height: int) -> tuple[int, int]:
    """The size rounded up to even numbers, as halved chroma needs."""
    return width + width % 2, height + height % 2


class ToVideo:
    """uint8 [h w 3] RGB -> BT.709 limited-range frames, `factor` times as large.

    An odd edge is repeated so that nothing is cut off. Enlarging (Lanczos) and conversion are one pass over planes of
    luma and halved chroma: a tenth of the time of enlarging RGB, and 1 dB nearer to the exact picture, as nothing is
    rounded in between (docs/benchmarks/2026-11-26-cpu.md).
    """

    def __init__(self, pix_fmt: str, factor: int = 1) -> None:
        self._pix_fmt, self._factor = pix_fmt, factor
        self._reformatter = VideoReformatter()  # keeps its tables from picture to picture

    def __call__(self, frame: np.ndarray) -> av.VideoFrame:
        width, height = frame.shape[1] * self._factor, frame.shape[0] * self._factor
        if width % 2 or height % 2:
            frame = upscaled(frame, self._factor)
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            width, height = even_size(width, height)
        enlarged = (height, width) != frame.shape[:2]
        out = self._reformatter.reformat(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24"), width, height, self._pix_fmt,
            dst_colorspace=Colorspace.ITU709, src_color_range=ColorRange.JPEG, dst_color_range=ColorRange.MPEG,
            interpolation=_exact(Interpolation.LANCZOS if enlarged else Interpolation.BILINEAR),
        )  # fmt: skip
        out.colorspace, out.color_range = Colorspace.ITU709, ColorRange.MPEG
        return out


class ToRgb:
    """Decoded frames -> uint8 [H W 3] RGB, by the matrix and range that the file states, upright.

    A filter graph, as it rounds exactly in every PyAV: plain conversion makes each picture 1.3 levels darker, which
    adds up when a film continues from its own frames.
    """

    def __init__(self) -> None:
        self._graph = Graph()
        self._key: tuple[int, int, str] | None = None

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        key = (frame.width, frame.height, frame.format.name)
        if key != self._key:
            self._graph, self._key = self._build(frame), key
        self._graph.push(frame)
        picture = self._graph.pull()
        if not isinstance(picture, av.VideoFrame):
            raise TypeError(f"the picture filter gave {type(picture).__name__}")
        turns = frame.rotation // 90  # a telephone's
        return np.rot90(picture.to_ndarray(), turns) if turns else picture.to_ndarray()

    @staticmethod
    def _build(frame: av.VideoFrame) -> Graph:
        graph = Graph()
        base = frame.time_base or Fraction(1, 1000)
        nodes = [
            graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=base),
            graph.add("scale", "flags=bilinear+accurate_rnd+full_chroma_int:out_range=full"),
            graph.add("format", "rgb24"),
            graph.add("buffersink"),
        ]
        for node, following in pairwise(nodes):
            node.link_to(following)
        graph.configure()
        return graph


def preview(frames: np.ndarray, side: int = PREVIEW_SIDE) -> np.ndarray:
    """uint8 [t H W 3] -> uint8 [t h w 3] with the longer side at most `side`: means of square blocks."""
    t, height, width, _ = frames.shape
    step = -(-max(height, width) // side)
    if step == 1:
        return frames.copy()
    down, across = min(step, height), min(step, width)  # a film may be lower than one block
    h, w = height // down, width // across
    whole = frames[:, : h * down, : w * across]  # t (h down) (w across) 3
    # Sixteen bits hold the sum of 257 values of 255.
    total = np.zeros((t, h, w, 3), np.uint32 if down * across > 257 else np.uint16)
    for y, x in product(range(down), range(across)):  # three times as fast as a mean over two axes
        total += whole[:, y::down, x::across]
    return (total / np.float32(down * across)).round().astype(np.uint8)
