"""Schedules of prompts by frame number: FizzNodes' `"0": "a fox", "48": "it jumps"`, and Deforum's settings.

The film is one take whose prompt changes at those frames. FizzNodes moves from each prompt to the next all the time;
here the next one holds from its frame on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from json import JSONDecoder
from typing import Any

from ...foreign import known_values
from ...timeline.storyboard import DEFAULT_FPS, DEFAULT_SECONDS
from ...words import counted
from .told import Shot, Told, seconds_of, some

FIZZ, DEFORUM = "a schedule of prompts", "settings of Deforum"
_FRAME = r"\"?([0-9]{1,12})\"?\s*:\s*(?=\")"
BEGINS = re.compile(rf"(?:{{\s*)?{_FRAME}")
"""How a text without blanks before it begins."""
_ENTRY = re.compile(rf"\s*{_FRAME}")
_END = re.compile(r"\s*(?:,\s*)?")
_EXPRESSION = re.compile(r"`[^`]*`")


@dataclass(frozen=True)
class _Settings:
    """What is read of Deforum's settings; prompts have had two names."""

    prompts: dict | None = None
    animation_prompts: dict | None = None
    animation_prompts_positive: str = ""
    animation_prompts_negative: str = ""
    fps: float | None = None
    max_frames: int | None = None
    seed: int | None = None


def read_schedule(text: str, fps: float | None) -> Told:
    """The schedule as text, with or without braces, quotes around numbers and a last comma; raises ValueError.

    fps: how many frames are a second; None counts as the film does.
    """
    body = text.strip()
    if body.startswith("{"):
        body = body[1:].rstrip().removesuffix("}")
    found: dict[str, str] = {}
    at, strings = 0, JSONDecoder(strict=False)  # theirs may hold line breaks
    while at < len(body):
        match = _ENTRY.match(body, at)
        if match is None:
            where = body[at : at + 40].strip()
            raise ValueError(
                f'after {counted(len(found), "prompt")} it says {where!r}, not \'"24": "a prompt",\''
            )
        if match[1] in found:
            raise ValueError(f"frame {match[1]} is given twice")
        found[match[1]], at = strings.raw_decode(body, match.end())
        at = _END.match(body, at).end()  # type: ignore[union-attr]  # an empty match is still a match
    return _told(FIZZ, found, _Settings(), fps, [])


def read_settings(whole: dict[str, Any], fps: float | None) -> Told:
    """Deforum's settings; raises ValueError for values of other types."""
    settings = known_values(_Settings(), whole)
    prompts = settings.animation_prompts if settings.prompts is None else settings.prompts
    wrong = next((frame for frame in prompts or {} if not (frame.isascii() and frame.isdecimal())), None)
    if wrong is not None or not prompts:
        raise ValueError(f"frame {wrong[:40]!r} is no number" if wrong is not None else "it has no prompt")
    read = {name for name in whole if hasattr(settings, name)}
    left = [some(len(whole) - len(read), "other setting")]
    left.append("its negative prompt" if settings.animation_prompts_negative else "")
    return _told(DEFORUM, prompts, settings, fps, left)


def _told(
    program: str, prompts: dict[str, Any], settings: _Settings, fps: float | None, left: list[str]
) -> Told:
    if any(len(frame) > 12 or not isinstance(prompt, str) for frame, prompt in prompts.items()):
        raise ValueError("a frame is too far, or a prompt is no text")
    rate = settings.fps or fps or DEFAULT_FPS
    at = sorted((int(frame), prompt.partition("--neg")[0]) for frame, prompt in prompts.items())
    end = settings.max_frames
    kept = max(1, sum(end is None or frame < end for frame, _ in at))
    frames = [0, *(frame for frame, _ in at[1:kept])]
    lengths = [seconds_of(after - before, rate) for before, after in pairwise(frames)]
    lengths.append(DEFAULT_SECONDS if end is None else seconds_of(end - frames[-1], rate))
    negative = sum("--neg" in prompt for prompt in prompts.values())
    weights = sum(len(_EXPRESSION.findall(prompt)) for _, prompt in at)
    return Told(
        program,
        [Shot(prompt, seconds) for (_, prompt), seconds in zip(at, lengths)],
        style=settings.animation_prompts_positive,
        seed=None if settings.seed == -1 else settings.seed,
        assumed=[
            "" if settings.fps or fps else f"{rate:g} pictures a second (--fps N counts otherwise)",
            f"{DEFAULT_SECONDS:g} s for its last prompt" if end is None else "",
        ],
        left=[
            *left,
            some(len(at[kept:]), "prompt after its last frame", "prompts after its last frame"),
            some(negative, "negative prompt"),
            some(weights, "weight in backticks", "weights in backticks"),
            f"its {settings.fps:g} pictures a second" if settings.fps not in (None, DEFAULT_FPS) else "",
        ],
    )
