"""What a file of another program says, in the terms of a storyboard, and the storyboard of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ...timeline import MAX_SEED, Segment, Storyboard, Verb
from ...timeline.lines import FORBIDDEN, half_width
from ...timeline.storyboard import BLANKS, DEFAULT_SECONDS, MAX_PROMPT, MAX_SECONDS, REFERENCE
from ...words import counted

MOST_SHOTS = 10_000
"""Shots of a file: fourteen hours of film at the usual length."""
_BRACES = re.compile(f"{REFERENCE.pattern}|[{{}}]")
NO_LENGTHS = f"{DEFAULT_SECONDS:g} s for each, as it says no lengths"
"""What is told of a format that says nothing about time."""


@dataclass(frozen=True)
class Shot:
    """One prompt of theirs; an empty one has no counterpart: the prompt before it goes on."""

    prompt: str
    seconds: float = DEFAULT_SECONDS
    verb: Verb = "then"


@dataclass(frozen=True)
class Told:
    """A whole file of theirs."""

    program: str
    """Whose form it is, as people call it."""
    shots: Sequence[Shot]
    style: str = ""
    """What they give to every shot."""
    cast: Mapping[str, str] = field(default_factory=dict)
    """Name to description, as `@cast`; prompts refer to it as `{name}`."""
    seed: int | None = None
    assumed: Sequence[str] = ()
    """What it does not say and a storyboard must, in words."""
    left: Sequence[str] = ()
    """What has no counterpart in a storyboard, in words."""


def storyboard_of(told: Told) -> tuple[Storyboard, list[str]]:
    """The storyboard, and in words what has no counterpart in it.

    Raises ValueError: nothing is seen in it, or a number, a length or a sign that no storyboard can hold.
    """
    left = list(told.left)
    if len(told.shots) > MOST_SHOTS:
        raise ValueError(f"it has {len(told.shots)} shots, more than {MOST_SHOTS}")
    prompts = [one_line(shot.prompt, f"the prompt of shot {n}") for n, shot in enumerate(told.shots, 1)]
    found = [_free_braces(prompt, told.cast) for prompt in prompts]
    prompts, freed = [prompt for prompt, _ in found], sum(count for _, count in found)
    style, _ = _free_braces(one_line(told.style, "what is said of every shot"), {})
    left.append(some(prompts.count(""), "prompt without words", "prompts without words"))
    left.append(some(freed, "pair of braces", "pairs of braces"))
    seed = told.seed
    if seed is not None and not 0 <= seed <= MAX_SEED:
        left.append("its seed, which is none of ours")
        seed = None
    shots = _without_empty([replace(shot, prompt=prompt) for shot, prompt in zip(told.shots, prompts)], style)
    if shots and shots[0].prompt == style:
        style = ""
    segments = tuple(
        Segment(shot.verb if n else "start", shot.prompt, _length(shot.seconds, n + 1))
        for n, shot in enumerate(shots)
    )
    if not segments:
        raise ValueError("it has no prompt")
    cast = {
        name: _free_braces(one_line(words, f"the description of {name}"), {})[0]
        for name, words in told.cast.items()
    }
    return Storyboard(seed=seed, style=style, cast=cast, segments=segments), left


def some(count: int, one: str, many: str = "") -> str:
    """`counted` for what was left, or taken for granted; empty, and so not said, where there is none."""
    return counted(count, one, many) if count else ""


def one_line(text: str, what: str) -> str:
    """`text` in a single line, empty where nothing in it can be seen; `what` is for the error.

    Raises ValueError: it is too long, or holds a sign that no storyboard can.
    """
    if len(text) > MAX_PROMPT:
        raise ValueError(f"{what} has more than {MAX_PROMPT} characters")
    if found := FORBIDDEN.search(line := " ".join(text.split()).strip(BLANKS)):
        raise ValueError(f"{what} holds a control character (U+{ord(found[0]):04X})")
    return line if half_width(line).strip(" ") else ""


def _free_braces(text: str, cast: Mapping[str, str]) -> tuple[str, int]:
    """The text without braces around words that are no names of the cast, and how many pairs there were."""
    unknown = [name for name in REFERENCE.findall(text) if name not in cast]
    text = REFERENCE.sub(lambda match: match[0] if match[1] in cast else match[1], text)
    if any(name not in cast for name in REFERENCE.findall(text)):  # nested: all go but the cast's own
        text = _BRACES.sub(lambda match: match[0] if match[1] in cast else match[1] or "", text)
    return text, len(unknown)


def _without_empty(shots: Sequence[Shot], style: str) -> list[Shot]:
    """The shots that say something, each as long as it goes on; where none does, `style` says it."""
    if not any(shot.prompt for shot in shots):
        whole = sum(shot.seconds for shot in shots) or DEFAULT_SECONDS
        return [Shot(style, whole)] if style else []
    said: list[Shot] = []
    before = 0.0
    for shot in shots:
        if shot.prompt:
            said.append(replace(shot, seconds=shot.seconds + before))
            before = 0.0
        elif said:
            said[-1] = replace(said[-1], seconds=said[-1].seconds + shot.seconds)
        else:
            before += shot.seconds
    return said


def _length(seconds: float, number: int) -> float:
    if not 0 < round(seconds, 4) <= MAX_SECONDS:
        raise ValueError(
            f"shot {number} lasts {seconds:.4g} s, which is not above 0 and at most {MAX_SECONDS:g}"
        )
    return round(seconds, 4)


def seconds_of(frames: float, fps: float) -> float:
    """How long `frames` last; raises ValueError where a number is too large to be meant."""
    check_frames(frames)
    check_speed(fps)
    return frames / fps


def check_speed(fps: float) -> None:
    """Raises ValueError where no film has so many pictures a second."""
    if not 0.01 <= fps <= 1e4:
        raise ValueError("its pictures a second are none of a film")


def check_frames(*frames: float) -> None:
    """Raises ValueError where one of them is no place in a film. (A number of JSON may have thousands of digits.)"""
    if not all(abs(frame) <= 1e9 for frame in frames):
        raise ValueError("it counts more pictures than a film has")
