"""The contact sheet of a film in a Take: a row of pictures per segment, with its verb and prompt."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ..errors import TakeError
from ..take.folder import Run
from ..video import SheetRow, contact_sheet, film_row, probe
from ..words import counted
from .imprint import filmed_segments, said_verb

AT_ONCE = 2
"""Rows that are read at a time: a picture of a film is decoded on one core."""


def draw_sheet(run: Run, film: Path, out: Path, title: str, columns: int = 6) -> str:
    """Draw what is in `film`, which `run` has made, to the image file `out`; returns the line under its title.

    Raises TakeError: there is no picture in it yet, or it cannot be read.
    """
    info = probe(film)
    fps = float(info.fps)

    def row(filmed: tuple[int, dict[str, Any], int, int]) -> SheetRow:
        _, segment, first, end = filmed
        verb, span = said_verb(segment["verb"], segment.get("back")), f"{first / fps:.1f} - {end / fps:.1f} s"
        return film_row(film, range(first, end), fps, segment["prompt"], verb, span, columns)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        rows = list(pool.map(row, filmed_segments(run)))
    if not rows:
        raise TakeError(f"{run.folder.name} has no whole segment yet", "render at least one chunk")
    subtitle = f"{info.seconds:.1f} s, {counted(len(rows), 'segment')}"
    contact_sheet(rows, out, title=title, subtitle=subtitle)
    return subtitle
