"""What happens where a prompt changes, whether the place stays what it was, and whether somebody told to move does.

Plain functions over a `Reading` and the changes from picture to picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from ...world.reader import WINDOW, Reading
from ...world.vocabulary import DANCE, IDENTITY, JUMP, LEFT, RIGHT, SCENE
from .drift import seconds_of, shots
from .metrics import Span, kept, reference

AFTER_SECONDS = 1.5
"""How long after a switch a character is looked at again."""
AROUND_SECONDS = 0.5
"""Either side of a switch whose changes are compared with all others."""
FASTEST = 3.0
"""Pixels from picture to picture that a character's centre may go; a hop's first is the largest."""
MOVING = (LEFT, RIGHT, JUMP, DANCE)


def switches(reading: Reading, changes: np.ndarray, spans: Sequence[Span], fps: float) -> list[dict]:
    """A row per `then`.

    turn: seconds until a window of pictures is read as the new action, the segment's length where none is.
    flip: share of identity attributes that were read in the second before and are read otherwise in the
    `AFTER_SECONDS` behind. jump: pixels that the character's centre goes at the switch beyond `FASTEST`.
    flicker: mean change in `AROUND_SECONDS` either side over the median of the film; changes: float [t-1].
    """
    usual = max(float(np.median(changes)), 1e-4) if len(changes) else 1e-4
    rows = []
    for before, span in pairwise(spans):
        if span.verb != "then":
            continue
        at, around = span.start, round(AROUND_SECONDS * fps)
        old = reference(reading, max(before.start, at - round(fps)), at)
        new = reference(reading, at, min(span.stop, at + round(AFTER_SECONDS * fps)))
        both = [name for name in IDENTITY if old[name] is not None and new[name] is not None]
        moved = float(np.linalg.norm(reading.boxes[at, :2] - reading.boxes[at - 1, :2]))
        row = {
            "turn": _turn(reading, span, fps),
            "jump": max(0.0, moved - FASTEST),
            "flicker": float(changes[max(0, at - around) : at + around].mean()) / usual,
        }
        rows.append(row | ({"flip": float(np.mean([old[n] != new[n] for n in both]))} if both else {}))
    return rows


def _turn(reading: Reading, span: Span, fps: float) -> float:
    inside = (reading.action_starts >= span.start) & (reading.action_starts + WINDOW <= span.stop)
    seen = inside & (reading.actions == (-1 if span.asked.action is None else span.asked.action))
    if not seen.any():
        return (span.stop - span.start) / fps
    return float(reading.action_starts[seen][0] - span.start) / fps


def place_kept(reading: Reading, spans: Sequence[Span], fps: float) -> list[dict]:
    """Per second of every shot but its first: the share of place and time read as in the shot's first second.

    What cannot be read counts as lost. Rows hold `second` (film time) and `kept`.
    """
    rows = []
    for start, stop in shots([s.verb for s in spans], [s.start for s in spans], spans[-1].stop):
        first, *later = seconds_of(start, stop, fps)
        seen = reference(reading, *first, SCENE)
        for a, b in later:
            shares = list(kept(reading, a, b, seen).values())
            rows.append({"second": a / fps, "kept": float(np.mean(shares))})
    return rows


def moved(changes: np.ndarray, spans: Sequence[Span], fps: float) -> list[float]:
    """Mean change from picture to picture in every segment whose action moves, without its first second; a film that
    stands still has a high identity and none of this."""
    parts = [
        changes[span.start + round(fps) : span.stop - 1] for span in spans if span.asked.action in MOVING
    ]
    return [float(part.mean()) for part in parts if part.size]
