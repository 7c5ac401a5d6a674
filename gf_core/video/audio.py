"""Sound under a film: read from any file, cut or padded to the film's length, encoded as the film goes along."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet

from ..errors import TakeError

log = logging.getLogger("grounded")

LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "quad", 5: "5.0", 6: "5.1", 8: "7.1"}
"""Channel layout by number of channels; others are not guessed."""
AAC_RATES = (48000, 44100, 96000, 88200, 64000, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
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


class SoundEncoder:
    """A new sound stream of a film: AAC, or 16-bit samples in a mov."""

    def __init__(self, target: OutputContainer, audio: Audio, *, suffix: str) -> None:
        """`audio` is as long as the film; make this before anything is muxed."""
        self._audio = audio
        codec = "pcm_s16le" if suffix == ".mov" else "aac"
        rate = audio.rate if codec != "aac" or audio.rate in AAC_RATES else AAC_RATES[0]
        stream = target.add_stream(codec, rate=rate)
        if not isinstance(stream, AudioStream):
            raise TypeError(f"{codec} made no sound stream")
        self._layout = LAYOUTS[audio.samples.shape[0]]
        stream.codec_context.layout = self._layout
        if codec == "aac":
            stream.codec_context.bit_rate = AAC_BITS * audio.samples.shape[0]
        self._stream = stream
        sample_format = "fltp" if codec == "aac" else "s16"
        self._resampler = av.AudioResampler(
            sample_format, self._layout, rate, BLOCK if codec == "aac" else None
        )
        self._sent = 0

    def upto(self, seconds: float | None) -> Iterator[Packet]:
        """Packets of what sounds before `seconds`; None gives all the rest and ends the stream."""
        samples, rate = self._audio.samples, self._audio.rate
        end = samples.shape[1] if seconds is None else min(int(seconds * rate), samples.shape[1])
        while self._sent < end:
            part = np.ascontiguousarray(samples[:, self._sent : self._sent + BLOCK], np.float32)
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=self._layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, self._sent, Fraction(1, rate)
            self._sent += part.shape[1]
            yield from self._encode(self._resampler.resample(frame))
        if seconds is None:
            yield from self._encode(self._resampler.resample(None))
            yield from self._stream.encode(None)

    def _encode(self, frames: list[av.AudioFrame]) -> Iterator[Packet]:
        for frame in frames:
            yield from self._stream.encode(frame)


class SoundCopy:
    """The sound that a film has already, packet by packet."""

    def __init__(self, target: OutputContainer, source: InputContainer) -> None:
        """`source` is a container of its own, so that reading sound does not move the pictures."""
        self._stream = target.add_stream_from_template(source.streams.audio[0], opaque=True)
        self._packets = (packet for packet in source.demux(source.streams.audio[0]) if packet.size)
        self._next: Packet | None = next(self._packets, None)

    def upto(self, seconds: float | None) -> Iterator[Packet]:
        """Packets that begin before `seconds`; None gives all the rest."""
        while (packet := self._next) is not None:
            start = float((packet.dts or 0) * packet.time_base) if packet.time_base else 0.0
            if seconds is not None and start >= seconds:
                return
            self._next = next(self._packets, None)
            packet.stream = self._stream
            yield packet
