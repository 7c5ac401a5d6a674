"""Several versions of one segment, each with its own seed, made into one Take and told apart by their runs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

from ..errors import StoryboardError
from ..timeline.storyboard import MAX_SEED, Storyboard


def with_seed(board: Storyboard, number: int, seed: int) -> Storyboard:
    """`board` with `seed` on segment `number`, counted from 1.

    Raises:
        StoryboardError: there is no such segment, or it is muted.
    """
    if not 1 <= number <= len(board.segments):
        raise StoryboardError(
            f"the storyboard has no segment {number}", f"give one from 1 to {len(board.segments)}"
        )
    segment = board.segments[number - 1]
    if segment.mute:
        raise StoryboardError(f"segment {number} is muted", "remove 'mute' from it", line=segment.line)
    parts = list(board.segments)
    parts[number - 1] = replace(segment, seed=seed)
    return replace(board, segments=tuple(parts))


def other_seeds(board: Storyboard, number: int, count: int) -> list[int]:
    """`count` seeds for segment `number`, the same for the same storyboard every time."""
    facts = [board.seed or 0, board.expanded(number - 1)]
    return [
        int.from_bytes(hashlib.sha256(json.dumps([*facts, n]).encode()).digest()[:8], "big") & MAX_SEED
        for n in range(count)
    ]


def alternatives(board: Storyboard, number: int, count: int) -> dict[int, Storyboard]:
    """Seed -> storyboard, `count` of them. Rendered into one Take with `until=number`, each samples that segment alone;
    the one that is kept then goes on from there.

    Raises:
        StoryboardError: there is no such segment, or it is muted.
    """
    with_seed(board, number, 0)  # refuses what is no segment
    return {seed: with_seed(board, number, seed) for seed in other_seeds(board, number, count)}
