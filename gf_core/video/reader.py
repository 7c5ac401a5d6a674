"""Frames out of a film with bounded memory, also out of one whose tail is torn."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import islice
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet

from ..errors import TakeError, reason
from .boxes import read_layout
from .pixels import ToRgb

log = logging.getLogger("grounded")

FORMATS = (
    "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg,mxf,nut,ivf,rm,gif,apng,dv,yuv4mpegpipe,"
    "h264,hevc,obu,m4v,mpegvideo,mjpeg,wav,w64,aiff,au,caf,flac,mp3,aac,ac3,eac3,dts,wv,ape,tta,amr"
)
"""Files that hold pictures or sound themselves; playlists and lists of parts are not among them."""


JOINABLE = ("mpegts", "mpeg")
"""Formats whose files may be several put end to end: a place in them is found from the beginning only."""
LEAST_FALL = Fraction(1, 2)
"""Seconds that a time lies before the last one where another recording begins; less is carelessness."""


@dataclass(frozen=True)
class FilmInfo:
    """What `probe` found."""

    frames: int
    """Frames that can be read."""
    fps: Fraction
    """Pictures per second."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    codec: str
    """Codec name of the picture stream."""
    pix_fmt: str
    """Pixel format, such as yuv420p."""

    @property
    def seconds(self) -> float:
        """Length."""
        return float(self.frames / self.fps)


def open_media(path: Path, end: int | None = None) -> InputContainer:
    """Open a film or a sound for reading, up to byte `end`; text in it that is not UTF-8 is read as far as it goes.

    It is a file whatever its name says (`http:a.mp4`), and names no other file or address to be read in its place.

    Raises FFmpegError, OSError, ValueError: it cannot be read.
    """
    place = str(path.absolute())
    if end is not None:
        place = f"subfile,,start,0,end,{end},,:{place}"
    safe = {"format_whitelist": FORMATS, "protocol_whitelist": "file,subfile"}
    return av.open(place, "r", options=safe, metadata_errors="replace")


@contextmanager
def open_film(path: str | Path) -> Iterator[InputContainer]:
    """Open `path` for reading; of a film with a torn tail only the whole fragments are seen.

    Raises TakeError: not there, not a film, or no picture in it that can be read.
    """
    path = Path(path)
    if not os.path.isfile(path):  # Path.is_file raises for a name that is too long
        raise TakeError(f"no film at {path}", "check the name, or render it")
    layout = read_layout(path)
    torn = layout.fragments and layout.end < layout.size
    try:
        container = open_media(path, layout.end if torn else None)
    except (FFmpegError, OSError, ValueError) as error:
        raise TakeError(
            f"{path.name} is not a film that can be read: {reason(error)}",
            "render it again, or choose another file",
        ) from error
    with container:
        if not container.streams.video:
            raise TakeError(f"{path.name} has no picture stream", "choose a video file")
        if container.streams.video[0].codec_context is None:
            raise TakeError(f"{path.name} is in a codec that is not known here", "convert it to H.264")
        yield container


def rate_of(container: InputContainer) -> Fraction:
    """Pictures per second of the film."""
    stream = container.streams.video[0]
    average, guessed, tick = stream.average_rate, stream.guessed_rate, stream.time_base or 0
    # Where times are whole milliseconds, as in Matroska, an older FFmpeg takes the average of rounded ones.
    if average and guessed and tick >= Fraction(1, 1000) and abs(1 / average - 1 / guessed) <= 2 * tick:
        return Fraction(guessed)
    return Fraction(average or guessed or 1)


def packets(container: InputContainer, joints: list[int] | None = None) -> Iterator[Packet]:
    """Picture packets until the end, or until the file is damaged.

    Where times begin anew, as in MPEG-TS files that were put end to end, those of each part follow the part before it.
    joints: gets the time at which each such part begins.
    """
    shift, last, shown, step = 0, None, 0, 0
    for packet in _undamaged(container):
        if packet.dts is not None:
            # How far its time falls back behind the last one.
            back = 0 if last is None else last - packet.dts - shift
            if back * (packet.time_base or 0) > LEAST_FALL:
                # Matroska tells no decoding times: those of the first frames may be as late as their showing.
                early = 0 if packet.pts is None else shown - packet.pts - shift
                shift += max(back, early) + step
                if joints is not None:
                    joints.append(packet.dts + shift)
            packet.dts += shift
            step, last = packet.duration or step, packet.dts
        if packet.pts is not None:
            packet.pts += shift
            shown = max(shown, packet.pts)
        yield packet


def _undamaged(container: InputContainer) -> Iterator[Packet]:
    """Picture packets as they lie in the file, until its end, or until it is damaged."""
    try:
        yield from (packet for packet in container.demux(container.streams.video[0]) if packet.size)
    except FFmpegError as error:
        log.warning("film ends early, its tail cannot be read: %s", error)


@dataclass(frozen=True)
class _Looked:
    """What shows in a film without decoding."""

    info: FilmInfo
    times: tuple[int, ...]
    """Presentation times of all frames in stream ticks, ascending; what a video was trimmed of, as telephones do it
    without removing it, is none."""
    tick: Fraction
    """Seconds."""
    joined: bool
    """It is, or may be, several recordings end to end: then nothing in it is found by a seek."""


def _look(path: str | Path) -> _Looked:
    """Look a film through; remembered while the file stays as it is."""
    try:
        state = Path(path).stat()
    except OSError:
        state = None
    return _look_through(str(path), state and (state.st_size, state.st_mtime_ns))


@lru_cache(maxsize=4)
def _look_through(path: str, _: tuple[int, int] | None) -> _Looked:
    joints: list[int] = []
    with open_film(path) as container:
        stream, fps = container.streams.video[0], rate_of(container)
        joinable = container.format.name in JOINABLE
        context, codec = stream.codec_context, stream.codec.canonical_name
        # Not `pix_fmt`: where a damaged film has none, PyAV 17 ends the process with a segmentation fault.
        kind = context.format
        seen = context.width, context.height, codec, kind.name if kind is not None else ""
        tick = stream.time_base or Fraction(1)
        times = [packet.pts for packet in packets(container, joints) if not packet.is_discard]
    if any(time is None for time in times):
        raise TakeError(f"{Path(path).name} does not say when its pictures are shown", "convert it to mp4")
    shown = tuple(sorted(time for time in times if time is not None))
    return _Looked(FilmInfo(len(times), fps, *seen), shown, tick, joinable or bool(joints))


def frame_times(path: str | Path) -> tuple[tuple[int, ...], Fraction]:
    """When every frame is shown, ascending, in ticks of so many seconds; nothing is decoded.

    Raises TakeError: it cannot be opened as a film, or does not say.
    """
    looked = _look(path)
    return looked.times, looked.tick


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
            # Again, as looking where it landed has taken a packet.
            container.seek(target, stream=stream, backward=True)
            return


def _decoded(
    container: InputContainer, wanted: Sequence[int] | None, joined: bool = False
) -> Iterator[av.VideoFrame]:
    """Frames up to the last of the times `wanted` (ascending), from the key frame at or before each; None: all frames.

    What lies between a wanted frame and the key frame of the next one is passed over. joined: as in `_Looked`.
    """
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    if wanted is not None and not joined:
        _seek(container, wanted[0])
    ahead = deque(wanted or ())
    waiting: list[Packet] = []  # since the last key frame, with nothing in them yet that is wanted
    given: set[int | None] = set()  # times that the decoder has got in front of those wanted before them
    fed = False
    try:
        for packet in packets(container):
            if wanted is None:
                yield from stream.decode(packet)
                continue
            # The next wanted frame is this key frame or behind it: what has waited is not needed.
            if waiting and packet.is_keyframe and packet.pts is not None and packet.pts <= ahead[0]:
                waiting = []
                if fed:  # the frames that the decoder still holds; then it begins anew
                    yield from stream.decode(None)
                    stream.codec_context.flush_buffers()
                    fed = False
            waiting.append(packet)
            if packet.pts != ahead[0]:
                continue
            # Not in the order of time where frames are reordered.
            given.update(ready.pts for ready in waiting)
            for ready in waiting:
                yield from stream.decode(ready)
            waiting, fed = [], True
            while ahead and ahead[0] in given:
                ahead.popleft()
            if not ahead:
                break
            given = {time for time in given if time is not None and time > ahead[0]}
        yield from stream.decode(None)
    except FFmpegError as error:
        log.warning("film ends early, a picture cannot be decoded: %s", error)


def read_frames(
    path: str | Path, start: int = 0, stop: int | None = None, tick: Callable[[], None] = lambda: None
) -> Iterator[np.ndarray]:
    """Yield frames `start` (from 0) up to but without `stop`, each uint8 [H W 3]; few are in memory at once.

    tick: called for every frame; may raise to stop.

    Raises TakeError: the file cannot be read at all; a damaged tail only ends the iteration and logs a line.
    """
    if start < 0 or (stop is not None and stop <= start):
        return
    wanted, joined = None, False
    if start:
        looked = _look(path)
        wanted, joined = looked.times[start:stop], looked.joined
        if not wanted:
            return
    to_rgb, count = ToRgb(), None if stop is None else stop - start
    with open_film(path) as container:
        frames = (
            frame
            for frame in _decoded(container, wanted, joined)
            if wanted is None or frame.pts is None or frame.pts >= wanted[0]
        )
        for frame in islice(frames, count):
            tick()
            yield to_rgb(frame)


def pick_frames(
    path: str | Path, indices: Iterable[int], tick: Callable[[], None] = lambda: None
) -> dict[int, np.ndarray]:
    """The frames with these numbers, uint8 [H W 3] by number, in one pass; absent ones are left out.

    tick: called for every frame that is decoded; may raise to stop.
    """
    looked = _look(path)
    times = looked.times
    wanted = {times[index]: index for index in indices if 0 <= index < len(times)}
    picked: dict[int, np.ndarray] = {}
    if not wanted:
        return picked
    to_rgb = ToRgb()
    with open_film(path) as container:
        for frame in _decoded(container, sorted(wanted), looked.joined):
            tick()
            if frame.pts in wanted:
                picked[wanted[frame.pts]] = to_rgb(frame)
    return picked


def probe(path: str | Path) -> FilmInfo:
    """Count and measure a film, without decoding a frame. Raises TakeError: it cannot be opened as a film."""
    return _look(path).info
