"""Sound under a film: read from any file, cut or padded to the film's length, encoded as the film goes along."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.codec.codec import Codec
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet

from ..errors import TakeError, reason
from ..words import counted
from .reader import open_media

log = logging.getLogger("grounded")

LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "quad", 5: "5.0", 6: "5.1", 8: "7.1"}
"""Channel layout by number of channels; sound of any other is mixed down to two."""
RATE = 48000
"""Samples per second where a codec does not know the sound's own."""
AAC_BITS = 96_000
"""Bits per second and channel."""
JITTER = 0.02
"""Seconds that a part may lie beside its time: files round, and what is shifted less is not heard."""
LONGEST = 4 * 3600
"""Seconds of sound that are read at the most."""
BLOCK = 1024
"""Samples handed to the encoder at a time."""
PACKED = "flt"
"""Samples of all channels by turns: of eight channels that lie one by one PyAV takes what lies behind for a ninth."""


@dataclass(frozen=True)
class Audio:
    """Sound as samples."""

    samples: np.ndarray
    """float32 [channels n] in -1..1."""
    rate: int
    """Samples per second."""

    def __post_init__(self) -> None:
        if self.samples.ndim != 2 or self.samples.shape[0] not in LAYOUTS or self.rate < 1:
            *some, last = map(str, LAYOUTS)
            raise TakeError(
                f"sound of shape {list(self.samples.shape)} at {self.rate} samples a second",
                f"give [channels, samples] with {', '.join(some)} or {last} channels",
            )

    @property
    def seconds(self) -> float:
        """Length."""
        return self.samples.shape[1] / self.rate


def read_audio(path: str | Path, seconds: float | None = None) -> Audio:
    """The first sound of an audio or video file; no more than `seconds` of it are read.

    Every part lies at its own time, counted from the file's first picture where it has pictures: what starts late has
    silence in front, gaps are silent, and what comes before the first picture is left out.

    Raises TakeError: not there, not readable, or without sound.
    """
    path = Path(path)
    if not path.is_file():
        raise TakeError(f"the sound {path} cannot be read: no such file", "check the name")
    try:
        with open_media(path) as container:
            if not container.streams.audio or container.streams.audio[0].codec_context is None:
                raise TakeError(f"{path.name} has no sound", "choose an audio file, or leave the sound away")
            blocks, rate = _blocks(container, LONGEST if seconds is None else seconds)
    except (FFmpegError, OSError, ValueError) as error:
        raise TakeError(
            f"the sound of {path} cannot be read: {reason(error)}",
            "give WAV, FLAC, MP3 or MP4 of one or two channels",
        ) from error
    if not blocks:
        raise TakeError(f"{path.name} holds no sound", "choose another file")
    samples = np.concatenate(blocks, axis=1, dtype=np.float32)
    return Audio(samples[:, : None if seconds is None else round(seconds * rate)], rate)


def _blocks(container: InputContainer, seconds: float) -> tuple[list[np.ndarray], int]:
    """Parts float32 [channels n] that follow each other, and samples a second."""
    stream = container.streams.audio[0]
    rate, channels = stream.codec_context.sample_rate, stream.codec_context.layout.nb_channels
    if channels not in LAYOUTS:
        log.info("sound of %s: it is mixed down to 2", counted(channels, "channel"))
        channels = 2
    resampler = av.AudioResampler(PACKED, LAYOUTS[channels], rate)
    zero, end, most = _zero(container), 0, round(seconds * rate)
    blocks: list[np.ndarray] = []
    # None asks for what the resampler holds back.
    frames = chain(container.decode(stream), [None])
    for part in chain.from_iterable(resampler.resample(frame) for frame in frames):
        samples = part.to_ndarray().reshape(-1, channels).T
        if part.pts is not None and part.time_base is not None:
            # Samples from the end of what there is to where the part begins, below 0 where it overlaps.
            late = round((part.pts * part.time_base - zero) * rate) - end
            if late > JITTER * rate:
                # No more than is left to fill: a file may claim any time.
                samples = np.pad(samples, ((0, 0), (min(late, most - end), 0)))
            elif late < -JITTER * rate:
                samples = samples[:, -late:]
        if samples.shape[1]:
            blocks.append(samples)
        end += samples.shape[1]
        if end >= most:
            break
    return blocks, rate


def _zero(container: InputContainer) -> Fraction:
    """The moment of the file at which its film, or sound without pictures, begins; in seconds."""
    for stream in container.streams.video:
        if stream.average_rate:  # the cover of an album has none
            return Fraction((stream.start_time or 0) * (stream.time_base or 0))
    if container.format.name.startswith(("mov", "matroska")):  # they say when sound starts; others only count
        return Fraction(0)
    return Fraction(container.start_time or 0, av.time_base)


def fitted(audio: Audio, seconds: float) -> Audio:
    """`audio` cut, or padded with silence, to `seconds`; one log line says so where it is not close already."""
    wanted = round(seconds * audio.rate)
    have = audio.samples.shape[1]
    if abs(have - wanted) > audio.rate * 0.02:
        does = "its end is left out" if have > wanted else "silence follows it"
        log.info("sound of %.2f s under a film of %.2f s: %s", audio.seconds, seconds, does)
    samples = np.asarray(audio.samples[:, :wanted], np.float32)
    return Audio(np.pad(samples, ((0, 0), (0, wanted - samples.shape[1]))), audio.rate)


def encode_sound(target: OutputContainer, audio: Audio, suffix: str) -> Iterator[Packet]:
    """The packets of a new sound stream: AAC, or 16-bit samples in a mov.

    `audio` is as long as the film; call this before anything is muxed.
    """
    codec = "pcm_s16le" if suffix == ".mov" else "aac"
    rates = Codec(codec, "w").audio_rates
    stream = cast(
        AudioStream, target.add_stream(codec, rate=audio.rate if not rates or audio.rate in rates else RATE)
    )
    layout = LAYOUTS[audio.samples.shape[0]]
    stream.codec_context.layout = layout
    if codec == "aac":
        stream.codec_context.bit_rate = AAC_BITS * audio.samples.shape[0]

    def packets() -> Iterator[Packet]:
        for start in range(0, audio.samples.shape[1], BLOCK):
            part = np.ascontiguousarray(audio.samples[:, start : start + BLOCK].T, np.float32)
            frame = av.AudioFrame.from_ndarray(part.reshape(1, -1), format=PACKED, layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = audio.rate, start, Fraction(1, audio.rate)
            yield from stream.encode(frame)
        yield from stream.encode(None)

    return packets()


def copy_sound(target: OutputContainer, source: InputContainer) -> Iterator[Packet]:
    """The packets of the sound that a film has already.

    `source` is a container of its own, so that reading sound does not move the pictures.
    """
    stream = target.add_stream_from_template(source.streams.audio[0], opaque=True)

    def packets() -> Iterator[Packet]:
        for packet in source.demux(source.streams.audio[0]):
            if packet.size:
                packet.stream = stream
                yield packet

    return packets()
