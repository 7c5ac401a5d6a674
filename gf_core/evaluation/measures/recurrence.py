"""Is a character still known when it comes back, and how does that fall with the shots in between?

Consistency by recurrence distance, as EntityBench (2605.15199) reports it, on what the reader of the built-in model
sees. And is it known from the others? Where all are dressed alike nobody can be mistaken for anybody, and nothing has
been remembered.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from ...timeline import BEGIN_SHOT
from ...world.reader import READABLE, Reading
from ...world.vocabulary import HIDDEN
from .metrics import Span, characters, first_sights


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


def told_apart(reading: Reading, spans: Sequence[Span], fps: float) -> list[float]:
    """For any two of a film's characters and each of scarf, hat, patch: 1 where both are read, and otherwise, in their
    first seconds, else 0.

    No caption says them, so that nobody asks for a difference; drawn worlds, which draw them evenly, have 0.75.
    """
    sights = first_sights(reading, spans, fps).values()
    return [
        float(None not in (one[name], other[name]) and one[name] != other[name])
        for one, other in combinations(sights, 2)
        for name in HIDDEN
    ]


def recalled_apart(reading: Reading, spans: Sequence[Span], fps: float) -> list[dict]:
    """Of each segment in which somebody is back, others between: the marks that only memory can have given it.

    A mark is one of scarf, hat, patch as read in the character's first second. It counts where none of the others that
    were seen until then is read with it in its own: who wears what others wore shows nothing of being remembered.
    Rows hold `segment`, `mark`, `absence` (seconds) and shares of the segment's pictures: `own` with that mark, `other`
    with that of one of the others. What cannot be read is neither.
    """
    keys, sights, rows = characters(spans), first_sights(reading, spans, fps), list[dict]()
    for number, (key, span) in enumerate(zip(keys, spans)):
        earlier = [place for place in range(number) if keys[place] == key]
        if not earlier or earlier[-1] == number - 1:
            continue
        others = set(keys[:number]) - {key}
        for name in HIDDEN:
            mine, read = sights[key][name], (sights[other][name] for other in others)
            theirs = [mark for mark in read if mark is not None]
            if mine is None or mine in theirs:
                continue
            part = slice(span.start, span.stop)
            seen = np.where(reading.confidence[name][part] >= READABLE, reading.labels[name][part], -1)
            rows.append(
                {
                    "segment": number,
                    "mark": name,
                    "absence": (span.start - spans[earlier[-1]].stop) / fps,
                    "own": float((seen == mine).mean()),
                    "other": float(np.isin(seen, theirs).mean()),
                }
            )
    return rows
