"""Chapters of a film: one per segment, so that players can jump to it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from av.container import InputContainer, OutputContainer

from .reader import open_film

log = logging.getLogger("grounded")

TICKS = 1000
"""Of a chapter's times, per second."""
TITLE_BYTES = 250
"""An mp4 chapter title holds 255 bytes."""


@dataclass(frozen=True)
class Chapter:
    """A named part of a film."""

    start_seconds: float
    end_seconds: float
    title: str


def read_chapters(path: str | Path) -> list[Chapter]:
    """The chapters of the film at `path`, in order."""
    with open_film(path) as container:
        return chapters_of(container)


def chapters_of(container: InputContainer) -> list[Chapter]:
    """The chapters of an open film; none where this PyAV cannot read them (before 14.1)."""
    if not hasattr(container, "chapters"):
        return []
    return [
        Chapter(
            float(entry["start"] * (entry["time_base"] or Fraction(1, TICKS))),
            float(entry["end"] * (entry["time_base"] or Fraction(1, TICKS))),
            entry["metadata"].get("title", ""),
        )
        for entry in container.chapters()
    ]


def write_chapters(container: OutputContainer, chapters: Sequence[Chapter]) -> None:
    """Put `chapters` into a film that is about to be written; call it before the first packet."""
    if not chapters:
        return
    if not hasattr(container, "set_chapters"):
        log.warning("chapters left out: this PyAV cannot write them, 14.1 and later can")
        return
    container.set_chapters(
        [
            {
                "id": number,
                "start": round(chapter.start_seconds * TICKS),
                "end": round(chapter.end_seconds * TICKS),
                "time_base": Fraction(1, TICKS),
                "metadata": {"title": _short(chapter.title)},
            }
            for number, chapter in enumerate(chapters)
        ]
    )


def _short(title: str) -> str:
    """`title` on one line, cut to what the format holds at a whole character."""
    line = " ".join(title.split())
    data = line.encode("utf-8")
    if len(data) <= TITLE_BYTES:
        return line
    return data[: TITLE_BYTES - 3].decode("utf-8", "ignore").rstrip() + "..."
