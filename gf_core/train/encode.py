"""Shots to latents on disk, clip by clip: bounded memory, resumable, nothing half-written or damaged believed."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import count as numbers
from itertools import islice, takewhile
from math import ceil
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..config import VideoSpec
from ..errors import GroundedError, TakeError
from ..files.atomic import fitting
from ..files.names import LONGEST
from ..video import probe, read_frames
from ..words import exact_rate
from .ranks import Ranks
from .sources.encoded import clips, facts_of, read_clip, sweep_clips, write_clip
from .sources.shots import Shot, Shots

log = logging.getLogger("grounded")
SUFFIX = ".safetensors"
NUMBERED = f"-0000{SUFFIX}"
MOST = f"-{10**9}{SUFFIX}"
"""How the name of a shot's first clip ends, and room for that of its last."""


class Encoder(Protocol):
    """What a codec is asked for."""

    fingerprint: str

    def encode(self, frames: Tensor) -> Tensor:
        """Frames `t H W 3`, float 0..1 -> latents `f c h w`."""
        ...


@dataclass(frozen=True)
class Encoding:
    """What was done to a set of shots."""

    made: int = 0
    """Clips that were encoded now."""
    kept: int = 0
    """Clips that lay there whole."""
    short: int = 0
    """Shots that are shorter than a clip."""
    others: int = 0
    """Clips that lie there of other shots; trainings read them, too."""


def encode_shots(
    shots: Shots, codec: Encoder, out: Path, video: VideoSpec, frames: int, ranks: Ranks | None = None
) -> Encoding:
    """Write every whole clip of `frames` pictures of every shot to OUT/<shot's file>-<number>.safetensors.

    Pictures are taken at video.fps by time, cropped evenly to the shape of video and scaled to it. A file that is
    there, whole, and of the same shot, caption, codec and settings is kept; one behind the end of a shot, which was
    longer once, goes, and so does what a kill left half-written. Ranks share the shots out.

    Raises GroundedError: two shots whose clips would be called alike; shots that could not be read, after all others
    are done.
    """
    ranks = ranks or Ranks()
    done, unread = Encoding(), []
    names = _names(shots)
    sweep_clips(out)
    for shot, name in list(zip(shots.shots, names))[ranks.rank :: ranks.count]:
        try:
            made, kept = _encode(shot, out / name, codec, video, frames)
        except TakeError as error:
            log.warning("%s is left out: %s", shot.path.name, error.message)
            unread.append(shot.path.name)
            continue
        done = Encoding(done.made + made, done.kept + kept, done.short + (not (made or kept)))
    if unread:
        raise GroundedError(
            f"{len(unread)} of {len(shots)} shots could not be read: {', '.join(unread[:5])}",
            "replace or remove them and run the same again: what is done is kept",
        )
    known = set(names)
    others = (path.relative_to(out) for path in clips(out))
    return replace(
        done, others=sum(path.with_name(path.name.rpartition("-")[0]) not in known for path in others)
    )


def _names(shots: Shots) -> list[Path]:
    """What the clips of every shot are called in front of their numbers: as its file lies below the shots' folder; a
    long name is cut to make room for them."""
    root, names = os.path.abspath(shots.root), dict[Path, Shot]()
    for shot in shots.shots:
        path = Path(os.path.abspath(shot.path))
        name = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
        if len(os.fsencode(name.name + NUMBERED)) > LONGEST:
            name = name.with_name(fitting(name.name, MOST).removesuffix(MOST))
        if name in names:
            raise GroundedError(
                f"{names[name].path} and {shot.path} would both become {name}{NUMBERED}",
                "name a file in one row only, and put a table above all files that it names",
            )
        names[name] = shot
    return list(names)


def _encode(shot: Shot, stem: Path, codec: Encoder, video: VideoSpec, frames: int) -> tuple[int, int]:
    """Clips of one shot, at `stem`-<number>.safetensors, that were made, and kept."""
    state, info = shot.path.stat(), probe(shot.path)
    facts: dict[str, Any] = {"prompt": shot.caption, "codec": codec.fingerprint, "frames": frames}
    facts |= {"video": asdict(video), "bytes": state.st_size, "time": state.st_mtime_ns}

    def place(number: int) -> Path:
        return stem.with_name(f"{stem.name}-{number:04d}{SUFFIX}")

    count = ceil(info.frames * exact_rate(video.fps) / info.fps) // frames
    there = [_is_there(place(number), {**facts, "clip": number}) for number in range(count)]
    _remove(map(place, numbers(count)))
    if all(there):
        return 0, count
    pictures, made = _pictures(shot.path, video), 0
    for number in range(count):
        clip = list(islice(pictures, frames))
        if len(clip) < frames:  # its tail is damaged: the reader said so
            _remove(map(place, numbers(number)))
            break
        if there[number]:
            continue
        latents = codec.encode(torch.from_numpy(np.stack(clip)).float() / 255)
        write_clip(place(number), latents, {**facts, "clip": number})
        made += 1
    return made, sum(there)


def _remove(clips: Iterator[Path]) -> None:
    """Clips of a shot that was longer, up to the first that is not there."""
    for path in takewhile(facts_of, clips):
        log.info("%s goes: its shot gives fewer clips now", path.name)
        path.unlink()


def _is_there(path: Path, facts: dict[str, Any]) -> bool:
    if not path.is_file():
        return False
    try:
        return read_clip(path)[0] == facts
    except GroundedError as error:
        log.info("%s is made again: %s", path.name, error.message)
        return False


def _pictures(path: Path, video: VideoSpec) -> Iterator[np.ndarray]:
    """Pictures uint8 [H W 3] of the wanted size at the wanted rate: each is the one that is shown at its time."""
    step, wanted = probe(path).fps / exact_rate(video.fps), 0
    for number, frame in enumerate(read_frames(path)):
        if int(wanted * step) != number:
            continue
        size = (video.width, video.height)
        fitted = np.asarray(ImageOps.fit(Image.fromarray(frame), size, Image.Resampling.LANCZOS))
        while int(wanted * step) == number:
            yield fitted
            wanted += 1
