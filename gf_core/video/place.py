"""From the growing film to the file an artist keeps: indexed, with sound, chapters and metadata.

Pictures are copied as they are unless another codec or quality is asked for; then they are encoded again, one at a
time, from frames that the caller decodes or from the film's own pictures.
"""

from __future__ import annotations

import contextlib
import errno
import filecmp
import heapq
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, count
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet

from ..errors import TakeError, reason
from ..files.atomic import (
    beside,
    check_length,
    disk_full,
    make_folder,
    shortened,
    sweep_beside,
    sync_file,
    sync_folder,
)
from ..files.names import LONGEST
from .audio import Audio, copy_sound, encode_sound, fitted, read_audio
from .codecs import CODECS, SUFFIXES, available_codecs, check_suffix, find_codec, suffix_for
from .encoder import add_pictures, encoded, timescale_of
from .metadata import Chapter, as_text, chapters_of, read_metadata, texts_of, write_chapters
from .pictures import STILLS, Still, can_write, write_pictures
from .pixels import even_size, upscaled
from .reader import FilmInfo, open_film, packets, probe, rate_of, read_frames

log = logging.getLogger("grounded")

AS_RENDERED = "as rendered"
DEFAULT_QUALITY = 18
KEY_SECONDS = 1.5
"""Between two pictures that decode alone, in a film that is encoded again: players can jump there."""
MILLISECOND = Fraction(1, 1000)


def available_formats() -> list[str]:
    """What `place_film` can be asked for here: `as rendered`, video codecs, folders of pictures."""
    return [AS_RENDERED, *available_codecs(), *(kind for kind in STILLS if can_write(kind))]


def place_film(
    run_film: str | Path,
    out: str | Path,
    *,
    codec: str | None = None,
    quality: int | None = None,
    audio: Audio | str | Path | None = None,
    metadata: Mapping[str, Any] | None = None,
    chapters: Sequence[Chapter] = (),
    frames: Iterable[np.ndarray] | None = None,
    same: Callable[[Path], None] | None = None,
    mark: str = "",
) -> Path:
    """Place the film `run_film` at `out` and return where it is; a file in the way is never replaced.

    out: `.mp4`, `.mov` or `.mkv`; a name without suffix gets that of the codec. For `png` and `exr` a folder.
    codec: a name in `available_formats()`. None or `as rendered` copies the pictures; `as rendered` ignores
        `quality`, None with a `quality` encodes in the film's own codec.
    quality: H.264 scale, 0 to 51; 18 where another codec is asked for without one.
    audio: sound, or a file that has some; cut or padded to the film. Without it the film keeps what it has.
    metadata: put over what the film carries; values that are not text are stored as JSON.
    chapters: in the order of time; without them the film keeps what it has.
    frames: blocks uint8 [t H W 3] of the whole film to encode from, enlarged to the film's size. Without them
        the film's own pictures are encoded again, and a log line says so.
    same: told of a file under this name, or one with a number, that holds these very bytes; it is returned, and no
        other is placed.
    mark: as of `files.atomic.beside`.

    Raises TakeError: no readable frame in `run_film`, or `out` cannot hold what is asked. ResourceError: a codec that
    cannot be encoded here, or a full disk.
    """
    source, out = Path(run_film), Path(out)
    info = probe(source)
    if info.frames == 0:
        raise TakeError(f"{source.name} holds no whole picture", "render at least one chunk first")
    if codec == AS_RENDERED:
        codec = quality = None
    texts, pictures = as_text(metadata or {}), _pictures(source, info, frames)
    if codec in STILLS:
        if audio is not None:
            log.warning("sound left out: a folder of pictures has none")
        return _place_stills(out, codec, {**read_metadata(source), **texts}, pictures, info.fps)
    own = codec_of(info)
    out = _suffixed(out, codec or own)
    check_length(out)
    if isinstance(audio, str | Path):
        audio = read_audio(audio, info.seconds + 1)
    sound = None if audio is None else fitted(audio, info.seconds)
    # No encode is a copy of the coded pictures: quick, and not a bit is lost.
    encode = None
    if codec not in (None, own) or quality is not None:
        encode = Encode(codec or own, DEFAULT_QUALITY if quality is None else quality, pictures)
    return _through_temporary(
        out, lambda part: write_film(source, part, encode, sound, chapters, texts), same, mark
    )


@dataclass(frozen=True)
class Encode:
    """How pictures are encoded again."""

    codec: str
    """A name in `codecs.CODECS`."""
    quality: int
    """H.264 scale."""
    pictures: Iterator[np.ndarray]
    """uint8 [H W 3], all of one size, in film order."""


def write_film(
    src: Path, dst: Path, encode: Encode | None, audio: Audio | None, chapters: Sequence[Chapter],
    texts: Mapping[str, str],
) -> None:  # fmt: skip
    """Write the film `src` to `dst` in one pass, its pictures copied where `encode` is None.

    audio: as long as the film; None keeps the film's own sound.
    chapters: empty keeps the film's own.
    texts: put over the film's own.

    Raises av.error.FFmpegError, ValueError: the container cannot hold this, or the disk failed.
    """
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(open_film(src))
        base, fps = source.streams.video[0].time_base, rate_of(source)
        (ticks, step), places = timescale_of(fps), {}
        if encode is None:
            # Whole milliseconds, as Matroska has them, where a picture does not last a whole number of them.
            if base == MILLISECOND and (1000 / fps).denominator > 1:
                places = _even_times(src, ticks, fps)
            # 0 leaves it to the container.
            ticks = ticks if places else base.denominator if base and base.numerator == 1 else 0
        # Index in front, any metadata key, every frame on a whole tick.
        options = {"movflags": "faststart+use_metadata_tags", "video_track_timescale": str(ticks)}
        options = {} if dst.suffix.lower() == ".mkv" else options
        target = stack.enter_context(av.open(str(dst.absolute()), "w", options=options))
        target.metadata.update({**texts_of(source), **texts})
        chapters = chapters or chapters_of(source)
        write_chapters(target, chapters)
        if encode is None:
            parts = [_copied(source, target, places, ticks, step)]
        else:
            cuts = {round(chapter.start_seconds * fps) for chapter in chapters}
            parts = [_encoded(target, encode, fps, cuts)]
        if audio is not None:
            parts.append(encode_sound(target, audio, dst.suffix.lower()))
        elif source.streams.audio and source.streams.audio[0].codec_context is None:
            log.warning("%s: its sound is left out, as its codec is not known here", src.name)
        elif source.streams.audio:
            parts.append(copy_sound(target, stack.enter_context(open_film(src))))
        # Interleaved by time, as a film is read.
        for packet in heapq.merge(*parts, key=_seconds):
            target.mux(packet)


def _seconds(packet: Packet) -> float:
    return float((packet.dts or 0) * (packet.time_base or 0))


def _even_times(src: Path, ticks: int, fps: Fraction) -> dict[int, int]:
    """Time in the file -> time in `ticks` a second, of frames whose even times a file has rounded to milliseconds.

    Matroska does. Empty where times are uneven, or frames are reordered.
    """
    with open_film(src) as film:
        found = [(packet.pts, packet.dts) for packet in packets(film)]
    times = [pts for pts, dts in found if pts is not None and pts == dts]
    numbers = [round((time - times[0]) * MILLISECOND * fps) for time in times]
    beside = [abs(time - times[0] - number / fps * 1000) for time, number in zip(times, numbers)]
    # Reordered, two pictures of one number, or one more than a millisecond beside its even time.
    if len(times) < len(found) or numbers != sorted(set(numbers)) or max(beside, default=0) > 1:
        return {}
    start = round(times[0] * MILLISECOND * ticks) if times else 0
    return {time: start + round(number / fps * ticks) for time, number in zip(times, numbers)}


def _copied(
    source: InputContainer, target: OutputContainer, places: Mapping[int, int], ticks: int, step: int
) -> Iterator[Packet]:
    """The picture packets as they are; at `places` (time in the file -> ticks) where there are any."""
    # Opaque: copied as it is; the decoder of AV1 has no encoder of the same name to ask.
    stream = target.add_stream_from_template(source.streams.video[0], opaque=True)

    def read() -> Iterator[Packet]:
        for packet in packets(source):
            packet.stream = stream
            if places and packet.pts is not None:
                packet.pts = packet.dts = places[packet.pts]
                packet.duration, packet.time_base = step, Fraction(1, ticks)
            yield packet

    return read()


def _encoded(target: OutputContainer, encode: Encode, fps: Fraction, keys: set[int]) -> Iterator[Packet]:
    encoder, choice = find_codec(encode.codec)
    first = next(encode.pictures)
    size = even_size(first.shape[1], first.shape[0])
    stream = add_pictures(target, encoder, choice, encode.quality, size=size, fps=fps)
    # The growing film has a key picture at every chunk; encoders' own habit is one in 250 pictures.
    stream.codec_context.gop_size = max(1, round(KEY_SECONDS * fps))
    if encoder.startswith("libx26"):  # their key pictures that are asked for let nothing look past them
        stream.codec_context.options = {**stream.codec_context.options, "forced-idr": "1"}
    return encoded(stream, chain([first], encode.pictures), fps, keys)


def codec_of(info: FilmInfo) -> str:
    """The name in `CODECS` of what a film is in, or what its stream calls itself."""
    bits = " 10-bit" if "10" in info.pix_fmt and f"{info.codec} 10-bit" in CODECS else ""
    return info.codec + bits


def _suffixed(out: Path, codec: str) -> Path:
    if not out.suffix:
        return out.with_suffix(suffix_for(codec))
    check_suffix(out, codec)
    return out


def _pictures(source: Path, info: FilmInfo, frames: Iterable[np.ndarray] | None) -> Iterator[np.ndarray]:
    """Single pictures uint8 [H W 3] of the film's size."""
    if frames is None:
        log.info("%s: its own pictures are encoded again, no latents were given to decode", source.name)
        yield from read_frames(source)
        return
    for frame in chain.from_iterable(frames):
        # Decoded latents have the model's size; the film may be a whole number of times that, and even.
        picture = upscaled(frame, max(1, info.width // frame.shape[1]))
        if even_size(picture.shape[1], picture.shape[0]) != (info.width, info.height):
            raise TakeError(
                f"pictures of {frame.shape[1]}x{frame.shape[0]} for a film of {info.width}x{info.height}",
                "decode the latents of the same film",
            )
        yield picture


def _place_stills(
    out: Path, kind: Still, texts: Mapping[str, str], pictures: Iterable[np.ndarray], fps: Fraction
) -> Path:
    """A new folder of pictures; filled under a hidden name, as a folder that is seen has all of its pictures."""
    folder = out if out.suffix.lower() not in SUFFIXES else out.with_suffix("")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Not one of `tempfile`, which is its owner's alone, whatever others may do with what this user makes.
    part = folder.with_name(f".{shortened(folder.name, LONGEST - 10)}-{secrets.token_hex(4)}")
    part.mkdir()
    try:
        write_pictures(pictures, part, kind, texts, fps)
        place = free_name(folder)
        os.rename(part, place)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return place


def _through_temporary(
    out: Path, write: Callable[[Path], None], same: Callable[[Path], None] | None, mark: str
) -> Path:
    """Let `write` fill a temporary file beside `out`, then give it its name; the rest as in `place_film`."""
    make_folder(out.parent)
    sweep_beside(out, out.suffix)
    with beside(out, out.suffix, mark) as part:
        part.touch()  # a folder that takes no files is not the fault of the film's suffix
        try:
            write(part)
        except (FFmpegError, ValueError) as error:
            if getattr(error, "errno", None) == errno.ENOSPC:
                raise disk_full(out, "saving the film") from error
            raise TakeError(
                f"{out.name} cannot be saved: {reason(error)}",
                "use .mp4 for H.264, HEVC and AV1, .mov for ProRes",
            ) from error
        if same is not None:
            for name in numbered(out, out.suffix):
                if not os.path.lexists(name):
                    break
                if name.is_file() and filecmp.cmp(part, name, shallow=False):
                    same(name)
                    return name
        sync_file(part)
        # The name is taken when the file is whole: what fails, or is killed, before that leaves no empty one.
        place = next(name for name in numbered(out, out.suffix) if _called(part, name))
        sync_folder(place.parent)
    return place


def numbered(path: Path, suffix: str) -> Iterator[Path]:
    """`path`, then with -2, -3, ... before its `suffix`; behind one that is so long that it is no suffix."""
    if len(os.fsencode(suffix)) > LONGEST // 2:
        suffix = ""
    stem, ends = path.name.removesuffix(suffix), (f"-{number}{suffix}" for number in count(2))
    others = (path.with_name(shortened(stem, LONGEST - len(os.fsencode(end))) + end) for end in ends)
    return chain([path], others)


def free_name(path: Path) -> Path:
    """The first of `path`, path-2, ... that nothing is called by; for a folder too, whose name has no suffix."""
    return next(name for name in numbered(path, path.suffix) if not os.path.lexists(name))


def _called(part: Path, name: Path) -> bool:
    """Whether the file `part` could be called `name`, as nothing was: of two renders each gets a name of its own."""
    try:
        try:
            os.link(part, name)
        except FileExistsError:
            raise
        except OSError:  # this disk makes no hard links
            # Taken empty first, as `replace` asks nobody; only a kill between the two leaves it so.
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
            os.replace(part, name)
    except FileExistsError:
        return False
    return True
