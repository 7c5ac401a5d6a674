"""The drift of a film as one picture: a curve per measure, every second against the first second of its shot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ...video import pick_frames, probe
from ..measures.steadiness import MEASURES, Second, measure_film
from ..parts import Part, in_seconds, recorded
from .chart import FAINT, LEFT, RIGHT, WIDTH, Page, axis

NOTES = {
    "identity": "traits of the character that are not as at first sight (0 to 1)",
    "background": "difference of the picture's edge (0 to 1)",
    "colour": "distance of the colours (0 to 1)",
    "flicker": "change from picture to picture, more or less than in the first second",
    "sharpness": "fine detail, more or less than in the first second",
}
HEIGHT = 74
"""Pixels of a panel."""
SCALE = {"identity": 1.0, "background": 0.1, "colour": 0.1, "flicker": 0.5, "sharpness": 0.5}
"""Smallest range of a panel, so that a steady film looks steady."""
SIGNED = ("flicker", "sharpness")
PER_SEGMENT = 16
"""Most pictures of a segment that the strip can ask for."""


def drift_chart(
    film: Path,
    parts: Sequence[Part],
    *,
    builtin: bool | None = None,
    title: str = "",
    tick: Callable[[], None] = lambda: None,
) -> tuple[Image.Image, list[Second]]:
    """The chart of the film at `film`, and the seconds it shows.

    parts: its segments. builtin: it is the built-in model's, so that identity can be read; None asks the film.
    title: stands above the chart; empty takes the file's name.
    tick: called for every frame that is looked at; may raise to stop.

    Raises TakeError: no film there.
    """
    if builtin is None:
        builtin = (made := recorded(film)) is not None and made.builtin
    rows = measure_film(film, parts, builtin, tick)
    info = probe(film)
    fps = float(info.fps)
    segments = [in_seconds(part, fps) for part in parts]
    page = Page({"seconds": info.frames / fps, "frames": info.frames, "fps": fps, "segments": segments})
    page.begin(title or film.name, _pictures(film, parts, tick))
    for name in MEASURES:
        if any(getattr(row, name) is not None for row in rows):
            _panel(page, name, rows, fps)
    axis(page)
    return page.cropped(), rows


def shot_lines(parts: Sequence[Part], rows: Sequence[Second], fps: float) -> list[str]:
    """One line per shot: what its last second is against its first."""
    lines = []
    for shot in sorted({row.shot for row in rows}):
        own = [row for row in rows if row.shot == shot]
        last, begin = own[-1], own[0].start
        prompt = next((part.prompt for part in parts if part.start == begin), "")
        values = [(name, getattr(last, name)) for name in MEASURES]
        shown = [
            f"{name} {value:+.2f}" if name in SIGNED else f"{name} {value:.3f}"
            for name, value in values
            if value is not None
        ]
        lines.append(
            f"shot {shot + 1:<3}{(last.stop - begin) / fps:6.1f} s  {'  '.join(shown)}  {prompt}".rstrip()
        )
    return lines


def _pictures(film: Path, parts: Sequence[Part], tick: Callable[[], None]) -> dict[int, np.ndarray]:
    """A few frames of every segment, uint8 [H W 3] by number."""
    wanted = {
        int(at)
        for part in parts
        for at in np.linspace(part.start, max(part.stop - 1, part.start), PER_SEGMENT // 2)
    }
    return pick_frames(film, wanted, tick)


def _panel(page: Page, name: str, rows: Sequence[Second], fps: float) -> None:
    page.heading(name.capitalize(), NOTES[name])
    values = [value for row in rows if (value := getattr(row, name)) is not None]
    scale = max(SCALE[name], *(abs(value) for value in values))
    low = -scale if name in SIGNED else 0.0
    top, lies = page.y, page.panel(HEIGHT, low, scale)
    page.draw.line((LEFT, lies(0), WIDTH - RIGHT, lies(0)), fill=FAINT, width=1)
    for shot in sorted({row.shot for row in rows}):
        own = [(row, getattr(row, name)) for row in rows if row.shot == shot]
        points = [
            (page.x((row.start + row.stop) / 2 / fps), lies(value)) for row, value in own if value is not None
        ]
        page.curve(points)
    page.boundaries(top, top + HEIGHT)
    page.y = top + HEIGHT + 4
