"""Is a character still known when it comes back, and how does that fall with the shots in between?

Consistency by recurrence distance, as EntityBench (2605.15199) reports it, on what the reader of the built-in model
sees.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .drift import HARD
from .metrics import Span


def by_distance(rows: Sequence[dict], spans: Sequence[Span]) -> dict[int, list[dict]]:
    """Seconds of every shot whose character was on screen in an earlier shot, by how many shots ago that was.

    1 is the shot before. A shot begins with one of `drift.HARD`; a segment that goes on is in the same one.
    rows: seconds of a film, as `metrics.identity` gives them.
    """
    shot_of = np.cumsum([number > 0 and span.verb in HARD for number, span in enumerate(spans)])
    seen: dict[tuple, list[int]] = {}
    found: dict[int, list[dict]] = {}
    for row in rows:
        shots, shot = seen.setdefault(tuple(row["character"]), []), int(shot_of[row["segment"]])
        earlier = [number for number in shots if number < shot]
        if earlier:
            found.setdefault(shot - earlier[-1], []).append(row)
        if not shots or shots[-1] != shot:
            shots.append(shot)
    return dict(sorted(found.items()))


def kept_by_distance(rows: Sequence[dict], spans: Sequence[Span]) -> dict[int, float]:
    """Distance in shots -> share of frames that show scarf, hat and patch as at first sight (`hidden`)."""
    return {
        distance: float(np.mean([row["hidden"] for row in part]))
        for distance, part in by_distance(rows, spans).items()
    }
