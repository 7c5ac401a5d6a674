"""Edits of a storyboard: one more shot before a segment, at a moment of the film or at its end; a seed written into the
text of a segment.

What was interrupted cannot go on as if nothing had happened, so the segment after a new shot begins with a cut
(after a `cut`) or a scene (after a `scene`); a moment inside a segment splits it, and its rest follows the new shot.
"""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction

from ..config import MAX_SEED
from ..errors import StoryboardError
from .grammar import parse
from .lengths import exactly
from .lines import Line, suggest
from .options import is_option
from .storyboard import BLANKS, MAX_SECONDS, REFERENCE, Segment, Storyboard, Verb

EXAMPLES = "write a moment such as 12.5s or 1:05, a segment's number such as 3, or end"
_MOMENT = re.compile(r"(?:(\d{1,6}):)?(\d{1,9}(?:\.\d{1,30})?|\.\d{1,30})\s*(s?)", re.IGNORECASE)


def insert_shot(
    board: Storyboard,
    at: str,
    prompt: str,
    seconds: float,
    *,
    keep_cast: bool = True,
    seed: int | None = None,
    back: int | None = None,
) -> Storyboard:
    """`board` with one more segment.

    at: `12.5s` or `0:12.5`, a moment of the film as written (muted segments take no time); `3`, before the
        third segment; `end`.
    prompt: what is seen; line breaks become blanks.
    seconds: its length.
    keep_cast: True makes it a `cut`, False a `scene`.
    seed: its own; None derives one from the film's.
    back: number of the segment of `board`, from 1, whose cast it has; None is that of the moment.

    Segments that go back to a later number follow their segment to its new one.

    Raises StoryboardError: `at` cannot be read or lies outside the film, or prompt, length, seed or `back` are
    impossible.
    """
    verb: Verb = "cut" if keep_cast else "scene"
    shot = Segment(verb, _read_prompt(board, prompt), float(seconds), seed)
    if not 0 < seconds <= MAX_SECONDS:
        fix = f"choose more than 0 and at most {MAX_SECONDS:g} seconds"
        raise StoryboardError(f"a shot of {seconds:g} seconds is out of range", fix)
    if seed is not None:
        _check_seed(seed)
    segments, place = _open_up(board.segments, at.strip(BLANKS).lower(), verb)
    after = segments[place:]
    if after and after[0].verb in ("start", "then"):
        after = (after[0].restarted(verb), *after[1:])
    if back is not None:
        shot = replace(shot, verb="back", back=_check_back(board, back, place))
    if place == 0:
        shot = replace(shot, verb="start")
    more = len(segments) - len(board.segments)
    # A segment that was split ends where its rest does, behind the new shot.
    renumbered = [_shifted(segment, place - more, 1 + more) for segment in (*segments[:place], *after)]
    return replace(board, segments=(*renumbered[:place], shot, *renumbered[place:]))


def _check_back(board: Storyboard, number: int, place: int) -> int:
    """`number`, if the segment stands in front of `place` and is in the film."""
    if not 1 <= number <= place or board.segments[number - 1].mute:
        fix = "choose the number of a segment that is seen before it"
        raise StoryboardError(f"the new shot cannot go back to segment {number}", fix)
    return number


def _shifted(segment: Segment, unmoved: int, by: int) -> Segment:
    """`segment`, which may go back, when those behind the first `unmoved` have numbers `by` higher."""
    if segment.back is None or segment.back <= unmoved:
        return segment
    return replace(segment, back=segment.back + by)


def _open_up(segments: tuple[Segment, ...], at: str, verb: Verb) -> tuple[tuple[Segment, ...], int]:
    """The segments, one of them split if need be, and where among them the new one goes."""
    if at == "end":
        return segments, len(segments)
    if at.isdecimal() and len(at) < 10:
        return segments, _number(int(at), len(segments))
    match = _MOMENT.fullmatch(at)
    if match is None or not (match[1] or match[3]):
        raise StoryboardError(f"'{at[:40]}' is no place in the film", EXAMPLES)
    moment = int(match[1] or 0) * 60 + Fraction(match[2])
    begin = Fraction(0)
    for index, segment in enumerate(segments):
        if moment == begin:
            return segments, index
        length = Fraction(0) if segment.mute else exactly(segment.seconds)
        if begin < moment < begin + length:
            first, rest = _split(segment, moment - begin, verb)
            return (*segments[:index], first, rest, *segments[index + 1 :]), index + 1
        begin += length
    if moment > begin:
        raise StoryboardError(
            f"the film is over at {float(begin):g} s, before {float(moment):g} s",
            "choose an earlier moment, or write end",
        )
    return segments, len(segments)


def _number(number: int, count: int) -> int:
    if not 1 <= number <= count:
        choice = "1" if count == 1 else f"1 to {count}"
        fix = f"choose {choice}, or end; a moment is written with an s, such as {number}s"
        raise StoryboardError(f"there is no segment {number}, the film has {count}", fix)
    return number - 1


def _split(segment: Segment, seconds: Fraction, verb: Verb) -> tuple[Segment, Segment]:
    """`segment` up to `seconds`, and the rest of it as a segment that can stand after another shot."""
    head, whole = float(seconds), exactly(segment.seconds)
    blend = None if segment.blend is None else min(segment.blend, head)
    rest = replace(segment.restarted(verb), seconds=float(whole - seconds), seed=None)
    return replace(segment, seconds=head, blend=blend), rest


def _read_prompt(board: Storyboard, prompt: str) -> str:
    text = " ".join(part for line in prompt.splitlines() if (part := line.strip(BLANKS)))
    if not text:
        raise StoryboardError("the new shot has no prompt", "write what is seen in it")
    for match in REFERENCE.finditer(text):
        if match[1] not in board.cast:
            fix = suggest(match[1], board.cast, f"add to the timeline: @cast {match[1]} = ...", "{{{}}}")
            raise StoryboardError(f"{{{match[1]}}} is not in the cast", fix)
    return text


def segment_at(board: Storyboard, number: int) -> int:
    """Place in `board.segments` of segment `number`, counted from 1.

    Raises StoryboardError: there is no such segment, or it is muted.
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

    Raises StoryboardError: the text cannot be read, there is no such segment, or it is muted.
    """
    _check_seed(seed)
    board = parse(text)
    index = segment_at(board, number)
    parts = re.split(r"(\r\n|\n|\r)", text)
    # Lines stand at even places, the breaks between them at odd ones.
    at = 2 * (board.segments[index].line - 1)
    parts[at] = _reseeded(parts[at], seed)
    changed = "".join(parts)
    if parse(changed) != with_seed(board, index, seed):
        raise StoryboardError(
            f"the seed cannot be written into segment {number}", f"write | seed {seed} at the end of its line"
        )
    return changed


def with_seed(board: Storyboard, index: int, seed: int) -> Storyboard:
    """`board` with `seed` as the own one of `board.segments[index]`."""
    own = replace(board.segments[index], seed=seed)
    return replace(board, segments=(*board.segments[:index], own, *board.segments[index + 1 :]))


def _reseeded(source: str, seed: int) -> str:
    """A segment's line with that seed, in the place of an old one or at its end."""
    for option in Line(1, source).fields(is_option)[1]:
        if option.plain.partition(" ")[0].lower() == "seed":
            return f"{source[: option.start]}seed {seed}{source[option.start + len(option.raw) :]}"
    line = source.rstrip(BLANKS)
    return f"{line} | seed {seed}{source[len(line) :]}"


def _check_seed(seed: int) -> None:
    if not 0 <= seed <= MAX_SEED:
        raise StoryboardError(f"seed {seed} is out of range", f"choose a number from 0 to {MAX_SEED}")
