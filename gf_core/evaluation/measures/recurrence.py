"""Is a character still known when it comes back, and how does that fall with the shots in between?

Consistency by recurrence distance, as EntityBench (2605.15199) reports it, on what the reader of the built-in model
sees.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...timeline.verbs import BEGIN_SHOT
from .metrics import Span


def kept_by_distance(rows: Sequence[dict], spans: Sequence[Span]) -> dict[int, float]:
    """Shots since a character was on screen -> share of frames that show scarf, hat and patch as at first sight.

    1 is the shot before. A segment that goes on is in the same one.
    rows: seconds of a film, as `metrics.identity` gives them.
    """
    shot_of = np.cumsum([number > 0 and span.verb in BEGIN_SHOT for number, span in enumerate(spans)])
    seen: dict[tuple, list[int]] = {}
    found: dict[int, list[float]] = {}
    for row in rows:
        shots, shot = seen.setdefault(tuple(row["character"]), []), int(shot_of[row["segment"]])
        earlier = [number for number in shots if number < shot]
        if earlier:
            found.setdefault(shot - earlier[-1], []).append(row["hidden"])
        if not shots or shots[-1] != shot:
            shots.append(shot)
    return {distance: float(np.mean(found[distance])) for distance in sorted(found)}
