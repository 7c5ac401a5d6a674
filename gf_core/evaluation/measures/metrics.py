"""Does the film show what the storyboard says, and does a character stay the same? Plain functions over a
`Reading`.

Definitions follow the usual long-video protocol: a reading below the readable threshold counts as wrong for
identity; the reference of a character is the majority over the first second of its *first appearance in the
film*, never the ground truth, because hats and scarves are not in the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ...timeline import BEGIN_SHOT
from ...world.reader import READABLE, WINDOW, Reading
from ...world.vocabulary import HIDDEN, IDENTITY, PROMPTED, Labels
from .drift import seconds_of

TRAITS = ("hidden", *IDENTITY)
"""What of a character is told: the traits that no prompt names together, and each one."""
LEFT = ("old", "new")
"""Whose place is seen after a cut, as `place_left` has it."""
SETTLE_SECONDS = 0.75
"""Start of a segment that is not judged for its action: the film needs a chunk to turn to the new prompt."""


@dataclass(frozen=True)
class Span:
    """One segment of the film, as the metrics need it."""

    start: int
    """First frame."""
    stop: int
    """Past the last frame."""
    verb: str
    """start, then, cut, back or scene."""
    prompt: str
    """The prompt as written."""
    asked: Labels
    """What the prompt asks for, with what is left out inherited."""


def majority(labels: np.ndarray, weights: np.ndarray | None = None) -> int | None:
    """The class with the largest summed weight; None where there is nothing to count."""
    if labels.size == 0:
        return None
    counts = np.bincount(labels, weights=weights)
    return int(counts.argmax()) if counts.max() > 0 else None


def read_segment(reading: Reading, span: Span, fps: float) -> dict[str, int | None]:
    """Majority per attribute over a segment, weighted by confidence; action over windows after the
    settling time."""
    result: dict[str, int | None] = {}
    for name in reading.labels:
        if name in HIDDEN:
            continue
        part = slice(span.start, span.stop)
        result[name] = majority(reading.labels[name][part], reading.confidence[name][part])
    inside = (reading.action_starts >= span.start) & (reading.action_starts + WINDOW <= span.stop)
    settled = inside & (reading.action_starts >= span.start + round(SETTLE_SECONDS * fps))
    use = settled if settled.any() else inside  # a segment of one chunk has nothing but its settling time
    result["action"] = majority(reading.actions[use], reading.action_confidence[use])
    return result


def adherence(reading: Reading, spans: Sequence[Span], fps: float) -> list[dict[str, dict]]:
    """Per segment and attribute: {"asked", "read", "right"}; "right" is None where the storyboard says
    nothing."""
    rows = []
    for span in spans:
        seen = read_segment(reading, span, fps)
        row = {}
        for name in PROMPTED:
            asked = getattr(span.asked, name)
            row[name] = {
                "asked": asked,
                "read": seen[name],
                "right": None if asked is None else seen[name] == asked,
            }
        rows.append(row)
    return rows


def share_right(rows: Sequence[dict[str, dict]]) -> dict[str, float]:
    """Share of segments read right per attribute; attributes that were never asked for are left out."""
    shares = {}
    for name in PROMPTED:
        judged = [row[name]["right"] for row in rows if row[name]["right"] is not None]
        if judged:
            shares[name] = float(np.mean(judged))
    return shares


def reference(
    reading: Reading, start: int, stop: int, names: Sequence[str] = IDENTITY
) -> dict[str, int | None]:
    """Majority of each of these attributes over readable frames of [start, stop)."""
    result = {}
    for name in names:
        sure = reading.confidence[name][start:stop] >= READABLE
        result[name] = majority(reading.labels[name][start:stop][sure])
    return result


def kept(reading: Reading, start: int, stop: int, ref: dict[str, int | None]) -> dict[str, float]:
    """Share of frames of [start, stop) that show the reference, per attribute; unreadable frames count as lost."""
    result = {}
    for name, value in ref.items():
        same = reading.labels[name][start:stop] == (-1 if value is None else value)
        sure = reading.confidence[name][start:stop] >= READABLE
        result[name] = float((same & sure).mean()) if stop > start else float("nan")
    return result


def characters(spans: Sequence[Span]) -> list[tuple]:
    """Who is asked for in each segment: number of the scene, after which a name means somebody new, subject, colour."""
    scenes = np.cumsum([number > 0 and span.verb == "scene" for number, span in enumerate(spans)])
    return [(int(scene), span.asked.subject, span.asked.colour) for scene, span in zip(scenes, spans)]


def first_sights(reading: Reading, spans: Sequence[Span], fps: float) -> dict[tuple, dict[str, int | None]]:
    """What is read of each character in its first second, which its first segment's end may cut short."""
    second, found = max(round(fps), 1), dict[tuple, dict[str, int | None]]()
    for key, span in zip(characters(spans), spans):
        if key not in found:
            found[key] = reference(reading, span.start, min(span.start + second, span.stop))
    return found


def identity(reading: Reading, spans: Sequence[Span], fps: float) -> list[dict]:
    """Per second of film: who is on screen and the share of frames in which each identity attribute is as at
    first sight.

    Rows hold `second` (film time), `length` in seconds, `segment`, `character` (as `characters`), `age` (seconds since
    that character's first frame), `absence` (seconds it was away before this shot), `cuts` (to it since then), `hidden`
    (mean over scarf, hat, patch) and one value per attribute.
    """
    first: dict[tuple, int] = {}
    refs = first_sights(reading, spans, fps)
    last_seen: dict[tuple, int] = {}
    away: dict[tuple, float] = {}
    cuts: dict[tuple, int] = {}
    rows = []
    previous = None
    for number, (span, key) in enumerate(zip(spans, characters(spans))):
        if key not in first:
            first[key] = span.start
            away[key], cuts[key] = 0.0, 0
        elif key != previous or span.verb in ("cut", "back"):
            away[key] = (span.start - last_seen[key]) / fps
            cuts[key] += 1
        for start, stop in seconds_of(span.start, span.stop, fps):
            values = kept(reading, start, stop, refs[key])
            hidden = float(np.mean([values[name] for name in HIDDEN]))
            row = {
                "second": start / fps,
                "length": (stop - start) / fps,
                "segment": number,
                "character": list(key),
                "age": (start - first[key]) / fps,
            }
            rows.append(row | {"absence": away[key], "cuts": cuts[key], "hidden": hidden} | values)
        last_seen[key] = span.stop
        previous = key
    return rows


def place_left(reading: Reading, spans: Sequence[Span], fps: float) -> list[dict]:
    """Per shot that begins in another place than the one before it: what its first second shows of both.

    Rows hold `segment`, `verb`, and the share of frames in which the place `old` or `new` is read with confidence.
    """
    second, rows = max(round(fps), 1), []
    for number, (before, span) in enumerate(pairwise(spans), 1):
        old, new = before.asked.place, span.asked.place
        if span.verb not in BEGIN_SHOT or None in (old, new) or old == new:
            continue
        part = slice(span.start, min(span.start + second, span.stop))
        seen = np.where(reading.confidence["place"][part] >= READABLE, reading.labels["place"][part], -1)
        shares = {"old": float((seen == old).mean()), "new": float((seen == new).mean())}
        rows.append({"segment": number, "verb": span.verb, **shares})
    return rows


def means(rows: Sequence[dict], names: Sequence[str] = TRAITS) -> dict[str, float]:
    """The mean of each of these columns; empty where there is no row."""
    return {name: float(np.mean([row[name] for row in rows])) for name in names} if rows else {}


def after_cut(rows: Sequence[dict], spans: Sequence[Span]) -> dict[str, float]:
    """Identity kept in segments that begin with `cut` or go back and show somebody already seen: `cut` all, `return`
    after an absence."""
    known: set[tuple] = set()
    same, back = [], []
    for number, span in enumerate(spans):
        mine = [row for row in rows if row["segment"] == number]
        if not mine:
            continue
        key = tuple(mine[0]["character"])
        if span.verb in ("cut", "back") and key in known:
            (back if mine[0]["absence"] > 0 else same).extend(mine)
        known.add(key)
    result = {}
    for title, part in (("cut", same), ("return", back)):
        result |= {f"{title}_{name}": mean for name, mean in means(part).items()}
    return result


def unreadable(reading: Reading, first: int = 0) -> dict[str, float]:
    """Share of frames from `first` on that cannot be read for sure, per attribute; `absent`: without a subject."""
    shares = {name: float((values[first:] < READABLE).mean()) for name, values in reading.confidence.items()}
    return shares | {"absent": float((reading.presence[first:] < 0.5).mean())}
