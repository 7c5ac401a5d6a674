"""Options of a segment, the parts after `|`: read from fields, written back as text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

from ..config import MAX_SEED
from ..errors import StoryboardError
from .lengths import meant, read_length, write_number
from .lines import Field, suggest
from .storyboard import MAX_SECONDS, Segment

_SHARE = re.compile(r"([0-9]+(?:[.,][0-9]*)?|[.,][0-9]+) *(%?)")
_NUMBER_LIKE = re.compile(r"[+-]?(?:[0-9.,]|(?:nan|inf|infinity) *s?$)", re.IGNORECASE | re.ASCII)
_WORD = re.compile(r"[A-Za-z]*")


def read_options(fields: Iterable[Field], fps: Fraction) -> tuple[dict[str, Any], dict[str, Field]]:
    """Segment attributes from the option fields of a line, and where each stands; in any order, none given twice.

    fps: pictures per second, for lengths in frames.
    """
    values: dict[str, Any] = {}
    places: dict[str, Field] = {}
    for field in fields:
        if not field.text:
            raise field.error("an option is empty", "remove the extra '|'")
        name, value = _read_option(field, fps)
        if name in values:
            label = "the duration" if name == "seconds" else name
            raise field.error(f"{label} is given twice", "keep one of the two")
        values[name], places[name] = value, field
    return values, places


def is_option(field: Field) -> bool:
    """Whether it reads as an option."""
    try:
        return bool(field.text and _read_option(field, Fraction(1)))
    except StoryboardError:
        return False


def write_options(segment: Segment) -> list[str]:
    """The option fields of `segment`, escaped; the duration always comes first."""
    parts = [f"{write_number(segment.seconds)}s"]
    if segment.seed is not None:
        parts.append(f"seed {segment.seed}")
    if segment.recache is not None:
        parts.append(f"recache {write_number(segment.recache)}")
    if segment.blend is not None:
        parts.append(f"blend {write_number(segment.blend)}s")
    return parts + ["motion"] * segment.motion + ["mute"] * segment.mute


def read_seed(field: Field, what: str) -> int:
    """A whole number in 0..MAX_SEED; `what` is for the error."""
    text = field.plain.strip(" ")
    if not re.fullmatch(r"[0-9]+", text):
        number = re.fullmatch(r"([0-9]{1,18})[.,]0*", text)
        fix = f"write {what} {number[1]}" if number else f"write a whole number from 0 to {MAX_SEED}"
        raise field.error(f"{what} needs a whole number, not '{field.text}'", fix)
    digits = text.lstrip("0") or "0"
    if len(digits) > 18 or int(digits) > MAX_SEED:
        raise field.error(f"{what} {field.text} is out of range", f"choose a number from 0 to {MAX_SEED}")
    return int(digits)


def _read_option(field: Field, fps: Fraction) -> tuple[str, Any]:
    if _NUMBER_LIKE.match(field.plain):
        return "seconds", _duration(field, fps, "a duration")
    word = field.plain.partition(" ")[0]
    name = word.lower()
    if name in _READERS:
        return name, _READERS[name](field.after(len(name)), fps)
    letters = _WORD.match(word)[0]  # type: ignore[index]  # an empty match is still a match
    if letters.lower() == "lora":
        fix = "remove it; load the LoRA with --lora, or with a LoRA node in front of the sampler"
        raise field.error("LoRAs belong to the whole film, not to a segment", fix)
    known = f"options are a duration such as 5s, {', '.join(_READERS)}; a bar in a prompt is written \\|"
    raise field.error(f"unknown option '{field.word}'", suggest(letters or field.word, _READERS, known))


def _recache(value: Field) -> float:
    number = _SHARE.fullmatch(value.plain.strip(" "))
    # What is no number is taken for one that is too large.
    share = float(number[1].replace(",", ".")) / (100 if number[2] else 1) if number else 2.0
    if not number or number[2] or "," in number[1] or share > 1:
        fix = f"write recache {write_number(share)}" if share <= 1 else "choose a number from 0 to 1"
        raise value.error(f"recache needs a number from 0 to 1, not '{value.text}'", fix)
    return share


def _flag(value: Field, name: str) -> bool:
    if value.text:
        raise value.error(f"{name} takes no value", f"write {name} alone")
    return True


_READERS: dict[str, Callable[[Field, Fraction], Any]] = {
    "seed": lambda value, _: read_seed(value, "seed"),
    "recache": lambda value, _: _recache(value),
    "blend": lambda value, fps: _duration(value, fps, "blend"),
    "motion": lambda value, _: _flag(value, "motion"),
    "mute": lambda value, _: _flag(value, "mute"),
}


def _duration(field: Field, fps: Fraction, what: str) -> float:
    text = field.plain.strip(" ").lower()
    seconds = read_length(text, fps)
    if seconds is None:
        option = "blend " if what == "blend" else ""
        message = f"{what} is a number of seconds with an s, not '{field.text}'"
        raise field.error(message, f"write {option}{meant(text, fps)}")
    if not 0 < seconds <= MAX_SECONDS:
        fix = f"choose more than 0 and at most {MAX_SECONDS:g} seconds; split longer ones with then:"
        raise field.error(f"{what} of '{field.text}' is out of range", fix)
    return seconds
