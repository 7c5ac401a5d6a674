"""Frames out of a film with bounded memory, also out of one whose tail is torn."""

from __future__ import annotations

import bisect
import io
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet

from ..errors import TakeError
from .boxes import read_layout
from .pixels import ToRgb

log = logging.getLogger("grounded")


class Prefix(io.RawIOBase):
    """The first `end` bytes of a file as a file of its own."""

    def __init__(self, path: str | Path, end: int) -> None:
        self._file = open(path, "rb")  # noqa: SIM115 - closed in close()
        self._end = end

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        left = max(self._end - self._file.tell(), 0)
        return self._file.read(left if size < 0 else min(size, left))

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset + self._end, 0) if whence == 2 else self._file.seek(offset, whence)

    def close(self) -> None:
        self._file.close()
        super().close()


@dataclass(frozen=True)
class FilmInfo:
    """What `probe` found."""

    frames: int
    """Frames that can be read."""
    fps: Fraction
    """Frames per second."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    seconds: float
    """Length: frames / fps."""
    codec: str
    """Codec name of the picture stream."""
    pix_fmt: str
    """Pixel format, such as yuv420p."""
    playable: bool
    """The first and the last frame decode."""
    complete: bool
    """False when bytes of a half-written chunk follow the last frame."""


@contextmanager
def open_film(path: str | Path) -> Iterator[InputContainer]:
    """Open `path` for reading; of a film with a torn tail only the whole fragments are seen.

    Raises:
        TakeError: not there, not a film, or no picture in it.
    """
    path = Path(path)
    if not path.is_file():
        raise TakeError(f"no film at {path}", "check the name, or render it")
    layout = read_layout(path)
    torn = bool(layout.fragments) and layout.end < layout.size
    source = Prefix(path, layout.end) if torn else None
    try:
        try:
            container = av.open(source or str(path), "r")
        except (FFmpegError, OSError) as error:
            raise TakeError(
                f"{path.name} is not a film that can be read: {error}",
                "render it again, or choose another file",
            ) from error
        with container:
            if not container.streams.video:
                raise TakeError(f"{path.name} has no picture stream", "choose a video file")
            yield container
    finally:
        if source is not None:
            source.close()


def packets(container: InputContainer) -> Iterator[Packet]:
    """Picture packets until the end, or until the file is damaged."""
    try:
        for packet in container.demux(container.streams.video[0]):
            if packet.size:
                yield packet
    except FFmpegError as error:
        log.warning("film ends early, its tail cannot be read: %s", error)


def _times(path: str | Path) -> tuple[int, ...]:
    """Presentation times of all frames in stream ticks, ascending; remembered while the file stays as it is."""
    try:
        state = Path(path).stat()
    except OSError:
        state = None
    return _read_times(str(path), state and (state.st_size, state.st_mtime_ns))


@lru_cache(maxsize=4)
def _read_times(path: str, _: tuple[int, int] | None) -> tuple[int, ...]:
    with open_film(path) as container:
        times = [packet.pts for packet in packets(container)]
    if any(time is None for time in times):
        raise TakeError(f"{Path(path).name} does not say when its frames are shown", "convert it to mp4")
    return tuple(sorted(time for time in times if time is not None))


def _seek(container: InputContainer, first: int) -> None:
    """Go to a key frame at or before time `first`: near it where the film has an index, else to its start."""
    stream = container.streams.video[0]
    for target in (first, 0):
        try:
            container.seek(target, stream=stream, backward=True)
            landed = next(container.demux(stream))
        except (FFmpegError, StopIteration):
            continue
        # Seeking goes by decoding time: with reordered frames it may land behind the frame.
        if landed.pts is not None and landed.pts <= first:
            container.seek(target, stream=stream, backward=True)
            return


def _decoded(container: InputContainer, first: int | None) -> Iterator[av.VideoFrame]:
    """Frames from time `first` on, decoding from the last key frame at or before it."""
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    if first is not None:
        _seek(container, first)
    group: list[Packet] = []
    seeking = True
    try:
        for packet in packets(container):
            if seeking and first is not None:
                if packet.is_keyframe and packet.pts is not None and packet.pts <= first:
                    group = []
                group.append(packet)
                if packet.pts != first:
                    continue
                seeking = False
            for ready in group or [packet]:
                yield from stream.decode(ready)
            group = []
        yield from stream.decode(None)
    except FFmpegError as error:
        log.warning("film ends early, a frame cannot be decoded: %s", error)


def read_frames(path: str | Path, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
    """Yield frames `start` (from 0) up to but without `stop`, each uint8 [H W 3]; few are in memory at once.

    Raises:
        TakeError: the file cannot be read at all; a damaged tail only ends the iteration and logs a line.
    """
    if start < 0 or (stop is not None and stop <= start):
        return
    first = None
    if start:
        times = _times(path)
        if start >= len(times):
            return
        first = times[start]
    left = None if stop is None else stop - start
    to_rgb = ToRgb()
    with open_film(path) as container:
        for frame in _decoded(container, first):
            if first is not None and frame.pts is not None and frame.pts < first:
                continue
            yield to_rgb(frame)
            if left is not None:
                left -= 1
                if left == 0:
                    return


def pick_frames(
    path: str | Path, indices: Iterable[int], tick: Callable[[], None] = lambda: None
) -> dict[int, np.ndarray]:
    """The frames with these numbers, uint8 [H W 3] by number, in one pass; absent ones are left out.

    tick: called for every frame that is decoded; may raise to stop.
    """
    wanted = sorted(set(indices))
    picked: dict[int, np.ndarray] = {}
    if not wanted:
        return picked
    times = _times(path)
    reachable = [times[index] for index in wanted if 0 <= index < len(times)]
    if not reachable:
        return picked
    to_rgb = ToRgb()
    with open_film(path) as container:
        targets = set(reachable)
        for frame in _decoded(container, reachable[0]):
            tick()
            if frame.pts in targets:
                picked[bisect.bisect_left(times, frame.pts)] = to_rgb(frame)
            if frame.pts is not None and frame.pts >= reachable[-1]:
                break
    return picked


def film_length(path: str | Path) -> tuple[int, Fraction]:
    """(frames, frames per second) of the film at `path`, counted in its packets without decoding one."""
    with open_film(path) as container:
        stream = container.streams.video[0]
        rate = Fraction(stream.average_rate or stream.guessed_rate or 1)
    return len(_times(path)), rate


def probe(path: str | Path) -> FilmInfo:
    """Count, measure and try a film.

    Raises:
        TakeError: it cannot be opened as a film.
    """
    with open_film(path) as container:
        stream = container.streams.video[0]
        fps = Fraction(stream.average_rate or stream.guessed_rate or 1)
        context = stream.codec_context
        width, height, codec, pix_fmt = (
            context.width,
            context.height,
            stream.codec.canonical_name,
            context.pix_fmt or "",
        )
        frames = sum(1 for _ in packets(container))
    layout = read_layout(path)
    playable = (
        frames > 0 and bool(list(read_frames(path, 0, 1))) and bool(list(read_frames(path, frames - 1)))
    )
    return FilmInfo(
        frames, fps, width, height, float(frames / fps), codec, pix_fmt, playable,
        complete=not layout.fragments or layout.end == layout.size,
    )  # fmt: skip
