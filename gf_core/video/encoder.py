"""A picture stream of an open container, set up alike for the growing film and for a film that is encoded again."""

from __future__ import annotations

from fractions import Fraction

from av.container import OutputContainer
from av.video.stream import VideoStream

from .codecs import CodecChoice
from .pixels import BT709

MIN_TIMESCALE = 10_000


def timescale_of(fps: Fraction) -> tuple[int, int]:
    """(ticks per second, ticks per frame) such that every frame starts on a whole tick."""
    factor = 1
    while fps.numerator * factor < MIN_TIMESCALE:
        factor *= 2
    return fps.numerator * factor, fps.denominator * factor


def add_pictures(
    container: OutputContainer, encoder: str, choice: CodecChoice, options: dict[str, str], *,
    size: tuple[int, int], fps: Fraction,
) -> VideoStream:  # fmt: skip
    """A new stream of `size` (width, height, both even) in BT.709 limited range."""
    stream = container.add_stream(encoder, rate=fps, options=options)
    if not isinstance(stream, VideoStream):
        raise TypeError(f"{encoder} made no picture stream")
    context = stream.codec_context
    stream.width, stream.height = size
    stream.pix_fmt = choice.pix_fmt
    # Slices would cost bytes; what is encoded is drained, so the delay of frame threads does not matter.
    context.thread_type = "FRAME"
    context.color_primaries = context.color_trc = context.colorspace = BT709
    context.color_range = 1
    if choice.tag:
        context.codec_tag = choice.tag
    return stream
