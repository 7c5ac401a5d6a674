"""Several takes of one segment: the same storyboard, with another seed on that segment and a name for each.

A name stands for a seed. The storyboard's text is the truth: picking a take writes `seed N` into it, and since the run
of that take has the same keys, the next render goes on from it. `shelf.py` lays them side by side.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..errors import GroundedError
from ..timeline import Storyboard, Timing, make_plan, parse
from ..timeline.reseed import reseed, segment_at

MOST = 26
"""Takes of one segment, as many as letters."""
SHORT_SEEDS = 10**6
_NAME = re.compile(r"\w(?:[\w -]{0,38}\w)?")


@dataclass(frozen=True)
class Alternative:
    """One take of a segment."""

    name: str
    """What it is called, and its clip without `.mp4`."""
    seed: int
    """The segment's seed."""
    run: str = ""
    """The run that holds it; empty before it is rendered."""


def own_seed(board: Storyboard, number: int) -> int:
    """The seed that segment `number` (from 1) has in `board`, written there or derived.

    Raises:
        StoryboardError: there is no such segment, or it is muted.
    """
    index = segment_at(board, number)
    return next(segment.seed for segment in make_plan(board).segments if segment.index == index)


def other_seeds(board: Storyboard, number: int, count: int) -> list[int]:
    """`count` different seeds for segment `number`, the same for the same film seed and prompt every time.

    Of six digits at most, because they are to be read and written in the storyboard.
    """
    facts, seeds, tried = [board.seed or 0, board.expanded(number - 1)], dict[int, None](), 0
    while len(seeds) < count:
        digest = hashlib.sha256(json.dumps([*facts, tried]).encode()).digest()
        seeds[int.from_bytes(digest[:8], "big") % SHORT_SEEDS] = None
        tried += 1
    return list(seeds)


def identity(board: Storyboard, number: int) -> str:
    """Names everything in the storyboard up to segment `number` that decides its pictures, but its seed."""
    index = segment_at(board, number)
    segments = list(board.segments)
    segments[index] = replace(segments[index], seed=0)
    plan = make_plan(replace(board, segments=tuple(segments)), Timing(board.fps))
    return next(segment.key for segment in plan.segments if segment.index == index)


def propose(
    board: Storyboard, number: int, count: int, names: Sequence[str] = (), known: Sequence[Alternative] = ()
) -> list[Alternative]:
    """`count` takes of segment `number`: those `known` first, then the storyboard's own seed, then new ones.

    names: in that order; where there are not enough, letters.

    Raises:
        StoryboardError: no such segment. GroundedError: too many, or names that cannot be used.
    """
    own = own_seed(board, number)
    if not 1 <= count <= MOST:
        raise GroundedError(f"{count} takes of a segment are out of range", f"ask for 1 to {MOST}")
    _check_names(names, count)
    seeds = list(dict.fromkeys([*(take.seed for take in known), own, *other_seeds(board, number, count)]))
    chosen = dict(zip(seeds, names))
    given = {name.casefold() for name in names}  # a known take gives its name up to the seed that gets it now
    called = {take.seed: take.name for take in known if take.name.casefold() not in given}
    taken = given | {name.casefold() for name in called.values()}
    letters = iter(letter for letter in "abcdefghijklmnopqrstuvwxyz" if letter not in taken)
    return [
        Alternative(chosen.get(seed) or called.get(seed) or next(letters), seed) for seed in seeds[:count]
    ]


def _check_names(names: Sequence[str], count: int) -> None:
    bad = [name for name in names if not _NAME.fullmatch(name)]
    if bad:
        raise GroundedError(
            f"'{bad[0]}' cannot be the name of a take", "use letters, digits, - and _, at most 40 of them"
        )
    if len({name.casefold() for name in names}) < len(names) or len(names) > count:
        raise GroundedError(
            f"{len(names)} names for {count} takes, or one of them twice", "give each take one name"
        )


def version(text: str, number: int, take: Alternative) -> str:
    """The storyboard `text` with that take of segment `number`: as it is, where it has that seed already."""
    return text if own_seed(parse(text), number) == take.seed else reseed(text, number, take.seed)
