"""Sound under a film: read from any file, cut or padded to the film's length, encoded as the film goes along."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.codec.codec import Codec
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet

from ..errors import TakeError

log = logging.getLogger("grounded")

LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "quad", 5: "5.0", 6: "5.1", 8: "7.1"}
"""Channel layout by number of channels; others are not guessed."""
RATE = 48000
"""Samples per second where a codec does not know the sound's own."""
AAC_BITS = 96_000
"""Bits per second and channel."""
BLOCK = 1024
"""Samples handed to the encoder at a time."""


@dataclass(frozen=True)
class Audio:
    """Sound as samples."""

    samples: np.ndarray
    """float32 [channels n] in -1..1."""
    rate: int
    """Samples per second."""

    def __post_init__(self) -> None:
        if self.samples.ndim != 2 or self.samples.shape[0] not in LAYOUTS or self.rate < 1:
            raise TakeError(
                f"sound of shape {list(self.samples.shape)} at {self.rate} samples a second",
                "give [channels, samples] with 1, 2 or 6 channels",
            )

    @property
    def seconds(self) -> float:
        """Length."""
        return self.samples.shape[1] / self.rate


def read_audio(path: str | Path, seconds: float | None = None) -> Audio:
    """The first sound of an audio or video file; no more than `seconds` of it are read.

    Raises:
        TakeError: not there, not readable, or without sound.
    """
    path = Path(path)
    blocks: list[np.ndarray] = []
    try:
        with av.open(str(path), "r") as container:
            if not container.streams.audio:
                raise TakeError(f"{path.name} has no sound", "choose an audio file, or leave the sound away")
            stream = container.streams.audio[0]
            rate = stream.codec_context.sample_rate
            channels = stream.codec_context.layout.nb_channels
            layout = LAYOUTS.get(channels, "stereo")
            wanted = None if seconds is None else round(seconds * rate)
            resampler = av.AudioResampler("fltp", layout, rate)
            have = 0
            for frame in container.decode(stream):
                blocks += [part.to_ndarray() for part in resampler.resample(frame)]
                have += frame.samples
                if wanted is not None and have >= wanted:
                    break
            blocks += [part.to_ndarray() for part in resampler.resample(None)]
    except (FFmpegError, OSError) as error:
        raise TakeError(
            f"the sound of {path} cannot be read: {error}", "give WAV, FLAC, MP3 or MP4"
        ) from error
    if not blocks:
        raise TakeError(f"{path.name} holds no sound", "choose another file")
    samples = np.concatenate(blocks, axis=1, dtype=np.float32)
    return Audio(samples[:, :wanted], rate)


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
            part = np.ascontiguousarray(audio.samples[:, start : start + BLOCK], np.float32)
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=layout)
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
