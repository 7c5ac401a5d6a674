"""Pictures into an open container, alike for the growing film and for a film that is encoded again."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from contextlib import nullcontext
from fractions import Fraction
from typing import cast

import numpy as np
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import PictureType
from av.video.stream import VideoStream

from .codecs import CodecChoice
from .pixels import BT709, ToVideo
from .turns import ordinary_turns

MIN_TIMESCALE = 10_000


def timescale_of(fps: Fraction) -> tuple[int, int]:
    """(ticks per second, ticks per frame) such that every frame starts on a whole tick."""
    factor = 1
    while fps.numerator * factor < MIN_TIMESCALE:
        factor *= 2
    return fps.numerator * factor, fps.denominator * factor


def add_pictures(
    container: OutputContainer, encoder: str, choice: CodecChoice, quality: int, *,
    size: tuple[int, int], fps: Fraction, enlarged: bool = False,
) -> VideoStream:  # fmt: skip
    """A new stream of `size` (width, height, both even) in BT.709 limited range."""
    options = choice.options(encoder, quality, enlarged, min(size))
    stream = cast(VideoStream, container.add_stream(encoder, rate=fps, options=options))
    context = stream.codec_context
    stream.width, stream.height = size
    stream.pix_fmt = choice.pix_fmt
    # Slices would cost bytes; what is encoded is drained, so the delay of frame threads does not matter.
    context.thread_type = "FRAME"
    context.color_primaries = context.color_trc = context.colorspace = BT709
    context.color_range = 1  # limited
    if choice.tag:
        context.codec_tag = choice.tag
    return stream


def encoded(
    stream: VideoStream,
    pictures: Iterable[np.ndarray],
    fps: Fraction,
    keys: Container[int] = (),
    factor: int = 1,
) -> Iterator[Packet]:
    """Packets of `pictures`, uint8 [h w 3], `factor` times of which is the stream's size, to the encoder's end.

    `keys` decode alone.
    """
    convert = ToVideo(stream.pix_fmt or "", factor)
    for index, picture in enumerate(pictures):
        frame = convert(picture)
        frame.pts, frame.time_base = index, 1 / fps
        if index in keys:
            frame.pict_type = PictureType.I
        # The first picture opens the encoder.
        with nullcontext() if index else ordinary_turns():
            packets = stream.encode(frame)
        yield from packets
    # One packet at a time: draining is most of the work, as the encoder has looked ahead until now.
    for packet in stream.codec_context.encode_lazy(None):
        packet.stream = stream
        yield packet
