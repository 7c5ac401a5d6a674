"""Storyboards of other programs: what a file is, and what it says in the words of ours.

Nothing in such a file is believed before its type and size are known. A table of the forms is in docs/storyboard.md.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path

from ...errors import GroundedError, StoryboardError
from ...foreign import read_json
from ...timeline import Storyboard, format_storyboard, parse
from ...words import counted
from . import director, entitybench, multishot, schedules, shotstream
from .told import Told, storyboard_of

__all__ = ["is_theirs", "pasted", "read_theirs", "understood"]

log = logging.getLogger("grounded")

LARGEST = 1_000_000
"""Bytes of a file that another one names."""
LONGEST = 4_000_000
"""Characters of a pasted storyboard; one with pictures inside has millions."""
SUFFIXES = (".json", ".csv")
"""Of files that are never text in our own language."""
KNOWN = (
    "known are scripts of H3-Multishot, timelines of LTX Director, captions of ShotStream, schedules of prompts "
    "(FizzNodes, Deforum) and episodes of EntityBench"
)
LEFT = "without a counterpart here"
_OURS = re.compile(
    r"^ *(?:(?:then|cut|scene|back +to +[0-9]+) *:|@(?:fps|seed|style|cast)\b)|\| *[0-9.,]+ *s\b",
    re.MULTILINE,
)
"""What our own storyboards have and scripts of others have not: then it is one of ours with a mistake in it."""


def is_theirs(text: str, suffix: str = "") -> bool:
    """Whether `text`, of a file with that suffix, is another program's; what reads as a storyboard is none."""
    if suffix.lower() in SUFFIXES:
        return True
    begin = text.lstrip()
    marked = schedules.BEGINS.match(begin) or begin[:1] in ("{", "[") or multishot.BETWEEN.search(text)
    if not (marked or shotstream.COLUMN in begin.partition("\n")[0]) or _OURS.search(text):
        return False
    try:
        parse(text)
    except StoryboardError:
        return True
    return False


def read_theirs(text: str, path: Path, fps: float | None = None) -> Storyboard:
    """The storyboard that another program's file says; a line of the log tells what it is and what has no counterpart.

    path: where it comes from; a list of files is looked up in its folder only.
    fps: pictures a second of a file that counts frames and does not say their speed; None counts as the film does.

    Raises GroundedError: of no known form, or it holds what no storyboard can.
    """
    board, said = understood(text, path, fps)
    log.warning("%s is %s", path.name, said)
    return board


def pasted(text: str) -> tuple[str, str]:
    """Another program's storyboard, pasted, in the words of ours, and what it is as `understood` says it.

    Raises GroundedError: too long, not another program's, or one that holds what no storyboard can.
    """
    if len(text) > LONGEST:
        raise GroundedError("the text is too long for a storyboard", f"paste at most {LONGEST:,} characters")
    if not is_theirs(text):
        raise GroundedError("this is no other program's storyboard", "paste all of its file")
    board, said = understood(text)
    return format_storyboard(board), said


def understood(text: str, path: Path | None = None, fps: float | None = None) -> tuple[Storyboard, str]:
    """The same, with what it is and what has no counterpart in words: `an LTX Director timeline, read as 2 segments`.

    path: None for a text that is in no file; then nothing that it names is opened.
    """
    try:
        told = _told(text, path, fps)
        board, left = storyboard_of(told)
    except ValueError as error:
        name = "this text" if path is None else path.name
        raise GroundedError(f"{name} cannot be read as a storyboard: {error}", KNOWN) from error
    parts = [f"{told.program}, read as {counted(len(board.segments), 'segment')}"]
    for what, words in (("assumed", told.assumed), (LEFT, left)):
        if any(words):
            parts.append(f"{what}: {', '.join(filter(None, words))}")
    return board, "; ".join(parts)


def _told(text: str, path: Path | None, fps: float | None) -> Told:
    begin, suffix = text.lstrip(), path.suffix.lower() if path else ""
    if schedules.BEGINS.match(begin):
        return schedules.read_schedule(text, fps)
    if suffix == ".csv" or shotstream.COLUMN in begin.partition("\n")[0]:
        return shotstream.read_list(text, _beside(path) if path else _nothing_beside)
    if begin[:1] not in ("{", "[") and multishot.BETWEEN.search(text):
        return multishot.read_script(text)
    whole = read_json(text)
    if not isinstance(whole, dict):
        return multishot.read_prompts(whole)
    if isinstance(whole.get("prompts"), dict) or "animation_prompts" in whole:
        return schedules.read_settings(whole, fps)
    for name, reader in (
        ("prompts", multishot.read_prompts),
        ("timeline", director.read_timeline),
        ("segments", director.read_timeline),
        ("shot1", shotstream.read_captions),
        ("scenes", entitybench.read_episode),
    ):
        if name in whole:
            return reader(whole)
    raise ValueError("it is JSON of no program that is known here")


def _nothing_beside(name: str) -> str:
    raise ValueError(f"{name[:80]!r}, which it names, is not in it")


def _beside(path: Path) -> Callable[[str], str]:
    """Opens files that a list names as seen from elsewhere: the longest end of a path that is in the list's folder."""

    def opened(name: str) -> str:
        folder = path.parent.resolve()
        parts = [part for part in re.split(r"[\\/]", name) if part not in ("", ".")]
        for start in range(len(parts)):
            found = folder.joinpath(*parts[start:])
            if ".." not in parts and found.is_file() and found.resolve().is_relative_to(folder):
                if found.stat().st_size > LARGEST:
                    raise ValueError(f"{name[:80]} is too large")
                return found.read_text(encoding="utf-8-sig")
        raise ValueError(f"{name[:80]!r}, which it names, is not beside it")

    return opened
