"""What a film says in words: title, comment, the graph where ComfyUI looks for it, and a chapter per segment."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from av.container import InputContainer, OutputContainer

from .reader import open_film

log = logging.getLogger("grounded")

MP4_OWN = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder", "creation_time"})
"""Keys that every mp4 carries about itself."""
TICKS = 1000
"""Of a chapter's times, per second."""
TITLE_BYTES = 250
"""An mp4 chapter title holds 255 bytes."""

_UNFIT = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True)
class Chapter:
    """A named part of a film, so that players can jump to it."""

    start_seconds: float
    end_seconds: float
    title: str


def as_text(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Values as the file holds them: text stays, everything else becomes JSON; None is left out.

    A NUL, at which every reader would end, becomes the mark of a letter that cannot be read, and a log line says so;
    so does half a character, which no file can hold.
    """
    texts = {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in metadata.items()
        if value is not None
    }
    for key in [key for key, text in texts.items() if _UNFIT.search(text)]:
        what = "a NUL" if "\0" in texts[key] else "half a character"
        log.warning("the film's %s has %s in it, which becomes \N{REPLACEMENT CHARACTER}", key, what)
        texts[key] = _UNFIT.sub("\N{REPLACEMENT CHARACTER}", texts[key])
    return texts


def read_metadata(path: str | Path) -> dict[str, str]:
    """Key -> text as stored in the film, without what the format says about itself."""
    with open_film(path) as container:
        return {key: value for key, value in texts_of(container).items() if key not in MP4_OWN}


def texts_of(container: InputContainer) -> dict[str, str]:
    """Key -> text as stored in an open film; Matroska's writer raises every letter of a key, which is undone.

    Also where the film has been copied out of Matroska since, by whatever program.
    """
    found = dict(container.metadata)
    return {key.lower() if key.isupper() and key.lower() not in found else key: found[key] for key in found}


def read_chapters(path: str | Path) -> list[Chapter]:
    """The chapters of the film at `path`, in order."""
    with open_film(path) as container:
        return chapters_of(container)


def chapters_of(container: InputContainer) -> list[Chapter]:
    """The chapters of an open film; none where this PyAV cannot read them (before 16)."""
    found = container.chapters() if hasattr(container, "chapters") else []
    return [
        Chapter(
            float(entry["start"] * (entry["time_base"] or Fraction(1, TICKS))),
            float(entry["end"] * (entry["time_base"] or Fraction(1, TICKS))),
            entry["metadata"].get("title", ""),
        )
        for entry in found
    ]


def write_chapters(container: OutputContainer, chapters: Sequence[Chapter]) -> None:
    """Put `chapters` into a film that is about to be written; call it before the first packet."""
    if not chapters:
        return
    if not hasattr(container, "set_chapters"):
        log.warning("chapters left out: this PyAV cannot write them, 16 and later can")
        return
    container.set_chapters(
        [
            {
                "id": number,
                "start": _tick(chapter.start_seconds),
                "end": _tick(chapter.end_seconds),
                "time_base": Fraction(1, TICKS),
                "metadata": {"title": _short(chapter.title)},
            }
            for number, chapter in enumerate(chapters)
        ]
    )


def _tick(seconds: float) -> int:
    """The first tick at or after `seconds`: a player that goes to the one before shows the picture before."""
    # Rounded first, as what should be a whole tick may come out a hair above it.
    return math.ceil(round(seconds * TICKS, 3))


def _short(title: str) -> str:
    """`title` on one line, cut to what the format holds at a whole character."""
    line = " ".join(title.split())
    data = line.encode("utf-8")
    if len(data) <= TITLE_BYTES:
        return line
    return data[: TITLE_BYTES - 3].decode("utf-8", "ignore").rstrip() + "..."
