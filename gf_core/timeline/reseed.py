"""Write a segment's seed into a storyboard's text, and change nothing else in it."""

from __future__ import annotations

import re
from dataclasses import replace

from ..errors import StoryboardError
from .grammar import parse
from .lines import Line
from .storyboard import BLANKS, MAX_SEED, Storyboard

_SEED = re.compile(rf"seed[{BLANKS}]", re.IGNORECASE)


def segment_at(board: Storyboard, number: int) -> int:
    """Place in `board.segments` of segment `number`, counted from 1.

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
    return number - 1


def reseed(text: str, number: int, seed: int) -> str:
    """`text` with `seed` as segment `number`'s own; remarks, blanks and line ends stay as they were.

    Raises:
        StoryboardError: the text cannot be read, there is no such segment, or it is muted.
    """
    if not 0 <= seed <= MAX_SEED:
        raise StoryboardError(f"seed {seed} is out of range", f"choose a number from 0 to {MAX_SEED}")
    board = parse(text)
    index = segment_at(board, number)
    parts = re.split(r"(\r\n|\n|\r)", text)
    at = 2 * (board.segments[index].line - 1)
    parts[at] = _with_seed(parts[at], seed)
    changed = "".join(parts)
    segments = list(board.segments)
    segments[index] = replace(segments[index], seed=seed)
    if parse(changed) != replace(board, segments=tuple(segments)):
        raise StoryboardError(
            f"the seed cannot be written into segment {number}", f"write | seed {seed} at the end of its line"
        )
    return changed


def _with_seed(source: str, seed: int) -> str:
    """A segment's line with that seed, in the place of an old one or at its end."""
    for option in Line(1, source).fields()[1:]:
        if _SEED.match(option.text):
            return f"{source[: option.columns[0] - 1]}seed {seed}{source[option.columns[-1] - 1 :]}"
    line = source.rstrip(BLANKS)
    return f"{line} | seed {seed}{source[len(line) :]}"
