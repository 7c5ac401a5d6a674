"""From the growing film to the file an artist keeps: indexed, with metadata, pictures untouched."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.error import FFmpegError

from ..errors import TakeError
from .metadata import as_text
from .reader import open_film, packets


def reserve_name(path: Path) -> Path:
    """Create an empty file at `path`, or at `name-2`, `name-3`, ... where that is taken, and return which."""
    candidate, number = path, 1
    while True:
        try:
            os.close(os.open(candidate, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
            return candidate
        except FileExistsError:
            number += 1
            candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")


def finalise(
    src: str | Path, dst: str | Path, metadata: Mapping[str, Any] | None = None, *, overwrite: bool = False
) -> Path:
    """Re-wrap the film `src` to an ordinary mp4 (or mov, mkv) at `dst` without encoding; returns where it is.

    Whole chunks of a torn film are kept. A file in the way is never replaced unless `overwrite`: the new one
    gets a number. `metadata` values that are not text are stored as JSON.

    Raises:
        TakeError: `src` has no readable frame, or `dst` has a suffix that cannot hold its codec.
    """
    dst = Path(dst)
    dst.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{dst.stem}-", suffix=dst.suffix, dir=dst.parent)
    os.close(handle)
    unfinished = Path(name)
    try:
        if _rewrap(Path(src), unfinished, as_text(metadata or {})) == 0:
            raise TakeError(f"{Path(src).name} holds no whole frame", "render at least one chunk first")
        os.chmod(unfinished, 0o644)
        place = dst if overwrite else reserve_name(dst)
        os.replace(unfinished, place)
    finally:
        unfinished.unlink(missing_ok=True)
    return place


def _options(source: InputContainer, suffix: str) -> dict[str, str]:
    """Muxer options: index in front, any metadata key; the source's ticks, which keep every frame on a whole one."""
    if suffix not in (".mp4", ".mov"):
        return {}
    options = {"movflags": "faststart+use_metadata_tags"}
    ticks = source.streams.video[0].time_base
    if ticks and ticks.numerator == 1:
        options["video_track_timescale"] = str(ticks.denominator)
    return options


def _rewrap(src: Path, dst: Path, metadata: Mapping[str, str]) -> int:
    """Copy the picture packets of `src` into `dst`; returns how many."""
    copied = 0
    try:
        with open_film(src) as source, av.open(str(dst), "w", options=_options(source, dst.suffix)) as target:
            target.metadata.update(source.metadata)
            target.metadata.update(metadata)
            # Opaque: copied as it is; the decoder of AV1 has no encoder of the same name to ask.
            stream = target.add_stream_from_template(source.streams.video[0], opaque=True)
            for packet in packets(source):
                packet.stream = stream
                target.mux(packet)
                copied += 1
    except (FFmpegError, ValueError) as error:
        raise TakeError(
            f"{src.name} cannot be saved as {dst.suffix or 'a file without a suffix'}: {error}",
            "use .mp4 for H.264, HEVC and AV1, .mov for ProRes",
        ) from error
    return copied
