"""The storyboard's verbs, a row each: who reads, plans, draws, measures or learns them asks here.

The page has the same rows in web/timeline/verbs.js, and tests/web holds the two equal.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Verb = Literal["start", "then", "cut", "back", "scene"]


class Row(NamedTuple):
    """What is said of a verb; what it does is in `sampling.film.carry_out`."""

    force: int
    """Of a muted segment and the next one the stronger verb acts, of equals the next one's. 0: the shot goes on."""
    colour: tuple[int, int, int]
    """In contact sheets."""
    written: str = ""
    means: str = ""
    options: tuple[str, ...] = ()
    """Those of no other verb."""


VERBS: dict[Verb, Row] = {
    "start": Row(3, (108, 182, 255)),
    "then": Row(0, (126, 200, 140), "then:", "same shot goes on", ("recache", "blend")),
    "cut": Row(1, (255, 176, 92), "cut:", "new shot, same cast"),
    "back": Row(2, (232, 140, 140), "back to 1:", "the cast of segment 1", ("motion",)),
    "scene": Row(2, (226, 128, 196), "scene:", "forget all"),
}
WORDS: tuple[Verb, ...] = tuple(verb for verb, row in VERBS.items() if row.written == f"{verb}:")
"""Verbs of one word, which need nothing but a prompt."""
BEGIN_SHOT: tuple[str, ...] = tuple(verb for verb, row in VERBS.items() if row.force)
