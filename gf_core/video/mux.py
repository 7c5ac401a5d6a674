"""One pass that writes a film file: pictures copied or encoded, sound beside them, chapters and metadata in front."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.packet import Packet

from .audio import Audio, SoundCopy, SoundEncoder
from .chapters import Chapter, chapters_of, write_chapters
from .codecs import find_codec
from .encoder import add_pictures, timescale_of
from .pixels import even_size, to_video_frame
from .reader import open_film, packets


@dataclass(frozen=True)
class Encode:
    """How pictures are encoded again."""

    codec: str
    """A name in `codecs.CODECS`."""
    quality: int
    """H.264 scale."""
    pictures: Iterator[np.ndarray]
    """uint8 [H W 3], all of one size, in film order."""


@dataclass(frozen=True)
class Extras:
    """What goes into the file besides pictures."""

    audio: Audio | None
    """As long as the film; None keeps the film's own sound."""
    chapters: tuple[Chapter, ...]
    """Empty keeps the film's own."""
    metadata: Mapping[str, str]
    """Put over the film's own."""


def write_film(src: Path, dst: Path, encode: Encode | None, extras: Extras) -> None:
    """Write the film `src` to `dst`, its pictures copied where `encode` is None.

    Raises:
        av.error.FFmpegError, ValueError: the container cannot hold this, or the disk failed.
    """
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(open_film(src))
        fps = Fraction(source.streams.video[0].average_rate or source.streams.video[0].guessed_rate or 1)
        ticks = timescale_of(fps)[0] if encode is not None else _ticks(source)
        target = stack.enter_context(av.open(str(dst), "w", options=_options(ticks, dst.suffix)))
        target.metadata.update(source.metadata)
        target.metadata.update(extras.metadata)
        write_chapters(target, extras.chapters or chapters_of(source))
        pictures = _copied(source, target) if encode is None else _encoded(target, encode, fps)
        sound = None
        if extras.audio is not None:
            sound = SoundEncoder(target, extras.audio, suffix=dst.suffix.lower())
        elif source.streams.audio:
            sound = SoundCopy(target, stack.enter_context(open_film(src)))
        for packet in pictures:
            if sound is not None and packet.dts is not None and packet.time_base:
                target.mux(list(sound.upto(float(packet.dts * packet.time_base))))
            target.mux(packet)
        if sound is not None:
            target.mux(list(sound.upto(None)))


def _ticks(source: InputContainer) -> int | None:
    """The picture stream's ticks per second, which keep every frame on a whole one."""
    base = source.streams.video[0].time_base
    return base.denominator if base and base.numerator == 1 else None


def _options(ticks: int | None, suffix: str) -> dict[str, str]:
    """Muxer options: index in front, any metadata key, whole ticks."""
    if suffix.lower() not in (".mp4", ".mov"):
        return {}
    options = {"movflags": "faststart+use_metadata_tags"}
    return {**options, "video_track_timescale": str(ticks)} if ticks else options


def _copied(source: InputContainer, target: OutputContainer) -> Iterator[Packet]:
    # Opaque: copied as it is; the decoder of AV1 has no encoder of the same name to ask.
    stream = target.add_stream_from_template(source.streams.video[0], opaque=True)

    def read() -> Iterator[Packet]:
        for packet in packets(source):
            packet.stream = stream
            yield packet

    return read()


def _encoded(target: OutputContainer, encode: Encode, fps: Fraction) -> Iterator[Packet]:
    encoder, choice = find_codec(encode.codec)
    first = next(encode.pictures)
    size = even_size(first.shape[1], first.shape[0])
    options = choice.options(encoder, encode.quality)
    stream = add_pictures(target, encoder, choice, options, size=size, fps=fps)

    def read() -> Iterator[Packet]:
        picture: np.ndarray | None = first
        index = 0
        while picture is not None:
            frame = to_video_frame(picture, choice.pix_fmt)
            frame.pts, frame.time_base = index, 1 / fps
            yield from stream.encode(frame)
            picture = next(encode.pictures, None)
            index += 1
        yield from stream.encode(None)

    return read()
