"""Captions of ShotStream: JSON with `global_caption` and `shot1`, `shot2`, ..., and the CSV that lists such files with
the frames of their shots. Every shot is a cut.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count, takewhile
from typing import Any

from ...foreign import known_values, read_json
from ...timeline.storyboard import DEFAULT_SECONDS
from ...words import counted
from .told import NO_LENGTHS, Shot, Told, seconds_of, some

PROGRAM = "captions of ShotStream"
FPS = 16
"""Of the Wan model that it drives."""
COLUMN = "json_path"
"""Of the CSV: where a film's captions are, as seen from the folder that the program is run in."""


@dataclass(frozen=True)
class _Captions:
    global_caption: str = ""


@dataclass(frozen=True)
class _Frames:
    frame_number: tuple[tuple[int, int], ...] = ()
    """First frame and the one after the last, of every shot."""


def read_captions(whole: dict[str, Any], frames: tuple[tuple[int, int], ...] | None = None) -> Told:
    """The captions of one film; raises ValueError for values of other types.

    frames: [first, end) of every shot that is wanted; None takes all, of the usual length.
    """
    style = known_values(_Captions(), whole).global_caption
    names = list(takewhile(whole.__contains__, (f"shot{number}" for number in count(1))))
    wrong = next((name for name in names if not isinstance(whole[name], str)), None)
    if wrong is not None:
        raise ValueError(f"{wrong} is {str(whole[wrong])[:40]!r}")
    wanted = names if frames is None else names[: len(frames)]
    if frames is not None and len(frames) > len(names):
        raise ValueError(f"{counted(len(frames), 'shot')} of frames, {counted(len(names), 'caption')}")
    lengths = [DEFAULT_SECONDS] * len(names)
    if frames is not None:
        lengths = [seconds_of(end - first, FPS) for first, end in frames]
    more = len(whole) - len(names) - ("global_caption" in whole)
    unseen = len(names) - len(wanted)
    left = [
        some(unseen, "caption without frames", "captions without frames"),
        some(more, "other entry", "other entries"),
    ]
    shots = [Shot(whole[name], seconds, "cut") for name, seconds in zip(wanted, lengths)]
    return Told(PROGRAM, shots, style=style, assumed=[NO_LENGTHS] if frames is None else [], left=left)


def read_list(text: str, open_captions: Callable[[str], str]) -> Told:
    """The first film of a CSV; raises ValueError for a file of another form.

    open_captions: gives the text of a file that the CSV names.
    """
    try:
        rows = csv.DictReader(text.splitlines(), strict=True)
        row = next(rows, None)
        others = sum(1 for _ in rows)
    except csv.Error as error:
        raise ValueError(str(error)) from error
    if row is None or not row.get(COLUMN):
        raise ValueError(f"it names no captions in a column {COLUMN}")
    frames = None
    if said := row.get("frame_number"):
        frames = known_values(_Frames(), {"frame_number": read_json(said)}).frame_number
    captions = read_json(open_captions(row[COLUMN]))
    if not isinstance(captions, dict):
        raise ValueError(f"{row[COLUMN]} holds no captions")
    read = read_captions(captions, frames)
    films = some(others, "more film in its list", "more films in its list")
    return replace(read, left=[*read.left, films])
