"""Storyboard text to `Storyboard`: directives, verbs, prompts, and errors with line, column and fix.

The whole grammar is in docs/storyboard.md; tests/fixtures/timeline holds cases that every reader of the
text shares.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from ..errors import StoryboardError
from .lines import Field, Line, nearest, split_lines
from .options import read_options, read_whole
from .storyboard import BLANKS, MAX_FPS, MAX_SEED, NAME, REFERENCE, Segment, Storyboard, Verb

VERBS: tuple[Verb, ...] = ("then", "cut", "scene")
VERB = re.compile(rf"([A-Za-z]+)[{BLANKS}]*:")
"""A word and a colon at the start of a line; a verb if the word is one."""

_DIRECTIVES = ("fps", "seed", "style", "cast")
_CAST = re.compile(rf"({NAME})[{BLANKS}]*=")


@dataclass
class _Reading:
    """What has been read so far."""

    settings: dict[str, Any] = field(default_factory=dict)
    cast: dict[str, str] = field(default_factory=dict)
    segments: list[Segment] = field(default_factory=list)
    references: list[tuple[Line, Field]] = field(default_factory=list)
    """Fields whose `{name}`s are checked at the end, because the cast may follow them."""


def parse(text: str) -> Storyboard:
    """Read a storyboard; raises StoryboardError at the first thing that cannot be read."""
    reading = _Reading()
    lines = split_lines(text)
    for line in lines:
        whole = line.whole()
        if not whole.text or whole.text.startswith("#"):
            continue
        if whole.text.startswith("@"):
            _read_directive(line, whole, reading)
        else:
            reading.segments.append(_read_segment(line, reading))
    for line, place in reading.references:
        _check_references(line, place, reading.cast)
    if not reading.segments:
        raise StoryboardError(
            "the storyboard has no segment",
            "write what is seen on a line of its own, for example: a red fox walks left in a meadow | 5s",
            line=len(lines),
            column=1,
        )
    return Storyboard(cast=reading.cast, segments=tuple(reading.segments), **reading.settings)


def _read_segment(line: Line, reading: _Reading) -> Segment:
    prompt, *options = line.fields()
    verb, prompt = _read_verb(line, prompt, first=not reading.segments)
    if not prompt.text:
        fix = "write what is seen before the first '|'"
        raise line.error(prompt.column, "the segment has no prompt", fix)
    reading.references.append((line, prompt))
    values = read_options(line, options)
    segment = Segment(verb=verb, prompt=prompt.text, line=line.number, **values)
    _check_switch_options(line, segment, options)
    return segment


def _read_verb(line: Line, prompt: Field, first: bool) -> tuple[Verb, Field]:
    match = VERB.match(prompt.text)
    word = match[1].lower() if match else ""
    if first:
        if word in ("then", "cut", "start"):
            fix = f"remove '{word}:' (or write 'scene:')"
            raise line.error(prompt.column, f"the first segment cannot be '{word}:'", fix)
        return "start", prompt.after(match.end()) if match and word == "scene" else prompt
    if match and word in VERBS:
        return word, prompt.after(match.end())
    choices = "then: (same shot goes on), cut: (new shot, same cast) or scene: (forget all)"
    if match:
        guess = nearest(word, VERBS)
        fix = f"did you mean '{guess}:'?" if guess else f"begin the line with {choices}"
        raise line.error(prompt.column, f"unknown verb '{match[1]}:'", fix)
    leading = re.split(rf"[{BLANKS}]", prompt.text)[0].lower()
    fix = f"put a colon after it: '{leading}:'" if leading in VERBS else f"begin the line with {choices}"
    raise line.error(prompt.column, "a segment after the first needs a verb", fix)


def _check_switch_options(line: Line, segment: Segment, options: list[Field]) -> None:
    """`recache` and `blend` shape a `then`, and a blend fits inside its segment."""
    for name in ("recache", "blend"):
        if getattr(segment, name) is not None and segment.verb != "then":
            place = next(option for option in options if option.text.lower().startswith(name))
            fix = f"remove {name}, or begin the line with then:"
            raise line.error(place.column, f"{name} belongs to 'then:' only", fix)
    if segment.blend is not None and segment.blend > segment.seconds:
        place = next(option for option in options if option.text.lower().startswith("blend"))
        message = f"the blend of {segment.blend:g} s is longer than its segment of {segment.seconds:g} s"
        raise line.error(place.column, message, "shorten the blend or lengthen the segment")


def _read_directive(line: Line, whole: Field, reading: _Reading) -> None:
    word = re.match(r"@([A-Za-z]*)", whole.text)[1]  # type: ignore[index]  # the line begins with @
    value = whole.after(1 + len(word))
    name = word.lower()
    if name not in _DIRECTIVES or whole.text[1 + len(word) :][:1] not in ("", *BLANKS):
        shown = re.split(f"[{BLANKS}]", whole.text)[0]
        guess = nearest(shown[1:], _DIRECTIVES)
        known = ", ".join("@" + known for known in _DIRECTIVES)
        fix = f"did you mean '@{guess}'?" if guess else f"directives are {known}"
        raise line.error(whole.column, f"unknown directive '{shown}'", fix)
    if name == "cast":
        _read_cast(line, value, reading)
        return
    if name in reading.settings:
        raise line.error(whole.column, f"@{name} is given twice", "keep one of the two")
    if not value.text:
        raise line.error(value.column, f"@{name} needs a value", f"write for example {_EXAMPLES[name]}")
    if name == "fps":
        reading.settings[name] = read_whole(line, value, "@fps", 16, 1, MAX_FPS)
    elif name == "seed":
        reading.settings[name] = read_whole(line, value, "@seed", 7, 0, MAX_SEED)
    else:
        reading.settings[name] = value.text
        reading.references.append((line, value))


_EXAMPLES = {"fps": "@fps 16", "seed": "@seed 7", "style": "@style 35mm film, soft morning light"}


def _read_cast(line: Line, value: Field, reading: _Reading) -> None:
    match = _CAST.match(value.text)
    example = "write for example: @cast fox = a small red fox with a torn left ear"
    if match is None:
        raise line.error(value.column, "@cast needs a name, '=' and a description", example)
    name, description = match[1], value.after(match.end())
    if name in reading.cast:
        raise line.error(value.column, f"{name} is in the cast twice", "give one of the two another name")
    if not description.text:
        raise line.error(description.column, f"{name} has no description", example)
    _check_references(line, description, reading.cast)  # only names above: no circles
    reading.cast[name] = description.text


def _check_references(line: Line, place: Field, cast: dict[str, str]) -> None:
    for match in REFERENCE.finditer(place.text):
        if match[1] not in cast:
            guess = nearest(match[1], cast)
            add = f"add a line above: @cast {match[1]} = what it looks like"
            fix = f"did you mean {{{guess}}}?" if guess else add
            raise line.error(place.columns[match.start()], f"{{{match[1]}}} is not in the cast", fix)
