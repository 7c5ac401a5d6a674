"""Does a shot stay what its first second was? Second by second, for a film of any model, in bounded memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import GroundedError
from ...video import probe, read_frames
from ...video.pixels import preview
from ..parts import Part
from .drift import SIDE, histogram, histogram_distance, seconds_of, sharpness, shots
from .metrics import IDENTITY, identity

log = logging.getLogger("grounded")

MEASURES = ("identity", "background", "colour", "flicker", "sharpness")
RING = 0.2
"""Share of each side that counts as background where nobody knows where the character is."""
FLOOR = 1e-6


@dataclass(frozen=True)
class Second:
    """One second of a shot, compared with the first one of that shot. 0 is no change at all."""

    start: int
    stop: int
    shot: int
    background: float
    """Mean difference of the picture's edge, 0..1."""
    colour: float
    """Earth mover's distance of the colour histograms, 0..1."""
    flicker: float
    """Change from picture to picture: 1 is twice that of the first second, -0.5 half of it."""
    sharpness: float
    """Fine detail (variance of the Laplacian), as a share more or less."""
    identity: float | None = None
    """Share of the character's traits that are not as at its first sight in the film, 0..1; what cannot be read counts.
    None where no reader knows the film."""


def measure_film(
    path: str | Path, parts: Sequence[Part], builtin: bool, tick: Callable[[], None] = lambda: None
) -> list[Second]:
    """Every second of the film at `path`; `builtin`: its model is the built-in one, whose characters can be read.

    tick: called for every frame; may raise to stop.
    """
    fps = float(probe(path).fps)
    cuts = shots([part.verb for part in parts], [part.start for part in parts], parts[-1].stop)
    spans = [(*span, number) for number, shot in enumerate(cuts) for span in seconds_of(*shot, fps)]
    found = compare(read_frames(path, tick=tick), spans)
    return _with_identity(path, parts, fps, found, tick) if builtin else found


def compare(frames: Iterable[np.ndarray], spans: Sequence[tuple[int, int, int]]) -> list[Second]:
    """Seconds (start, stop, shot) in film order, measured on frames uint8 [H W 3]; one second is held at a time."""
    rows: list[Second] = []
    first: dict[str, Any] = {}
    source = iter(frames)
    for start, stop, shot in spans:
        block = [
            small for _, frame in zip(range(stop - start), source) for small in preview(frame[None], SIDE)
        ]
        if not block:
            break
        values = _values(np.stack(block))
        if not rows or rows[-1].shot != shot:
            first = values
        rows.append(
            Second(
                start,
                start + len(block),
                shot,
                background=float(np.abs(values["edge"] - first["edge"]).mean()),
                colour=histogram_distance(values["colours"], first["colours"]),
                flicker=_ratio(values["flicker"], first["flicker"]),
                sharpness=_ratio(values["sharpness"], first["sharpness"]),
            )
        )
    return rows


def _ratio(value: float, first: float) -> float:
    return (value + FLOOR) / (first + FLOOR) - 1


def _values(frames: np.ndarray) -> dict[str, Any]:
    """What one second, uint8 [t h w 3], is compared by."""
    grey = frames.mean(-1, dtype=np.float32) / 255
    height, width = grey.shape[1:]
    edge = np.ones((height, width), bool)
    edge[:, max(1, round(width * RING)) : round(width * (1 - RING))] = False
    steps = np.abs(np.diff(grey, axis=0)) if len(grey) > 1 else np.zeros((1, 1, 1))
    return {
        "edge": (frames.mean(0, dtype=np.float32) / 255)[edge],
        "colours": histogram(frames),
        "flicker": float(steps.mean()),
        "sharpness": sharpness(grey),
    }


def _with_identity(
    path: str | Path, parts: Sequence[Part], fps: float, rows: list[Second], tick: Callable[[], None]
) -> list[Second]:
    """The rows with what the built-in model's reader sees; as they are, and said, where it cannot read the film."""
    from ...world.reader import load_reader, read
    from ..film import judged_spans, small_frames

    try:
        reading = read(load_reader(), small_frames(Path(path), tick=tick), tick=tick)
    except GroundedError as error:  # the other measures are of any film
        log.warning("identity is not measured: %s", error.message)
        return rows
    kept = identity(reading, judged_spans(parts), fps)
    shares = {row["second"]: float(np.mean([row[name] for name in IDENTITY])) for row in kept}
    known = []
    for row in rows:
        near = min(shares, key=lambda second: abs(second - row.start / fps), default=None)
        close = near is not None and abs(near - row.start / fps) < 0.5
        known.append(replace(row, identity=1 - shares[near]) if close and near is not None else row)
    return known
