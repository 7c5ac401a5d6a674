"""Options of a segment, the parts after `|`: read from fields, written back as text."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from .lines import Field, suggest
from .storyboard import BLANKS, DEFAULT_SECONDS, MAX_SECONDS, MAX_SEED, Segment

_BLANK = f"[{BLANKS}]*"
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+")
_NUMBER_LIKE = re.compile(rf"[+-]?(?:[0-9.]|(?:nan|inf|infinity){_BLANK}s?$)", re.IGNORECASE)
_DURATION = re.compile(rf"([0-9.]+){_BLANK}[sS]")
_SECONDS_WORD = re.compile(rf"([0-9.]+){_BLANK}(?:secs?|seconds?)?", re.IGNORECASE)
_MINUTES = re.compile(rf"([0-9.]+){_BLANK}(?:m|mins?|minutes?)", re.IGNORECASE)
_CLOCK = re.compile(r"([0-9]{1,6}):([0-9]{2})")
_WORD = re.compile(r"[A-Za-z]*")


def read_options(fields: list[Field]) -> tuple[dict[str, Any], dict[str, Field]]:
    """Segment attributes from the option fields of a line, and where each stands; in any order, none given twice."""
    values: dict[str, Any] = {}
    places: dict[str, Field] = {}
    for field in fields:
        if not field.text:
            raise field.error("an option is empty", "remove the extra '|'")
        name, value = _read_option(field)
        if name in values:
            label = "the duration" if name == "seconds" else name
            raise field.error(f"{label} is given twice", "keep one of the two")
        values[name], places[name] = value, field
    return values, places


def write_options(segment: Segment) -> list[str]:
    """The option fields of `segment`, escaped; the duration always comes first."""
    parts = [f"{write_number(segment.seconds)}s"]
    if segment.seed is not None:
        parts.append(f"seed {segment.seed}")
    if segment.recache is not None:
        parts.append(f"recache {write_number(segment.recache)}")
    if segment.blend is not None:
        parts.append(f"blend {write_number(segment.blend)}s")
    return parts + ["mute"] * segment.mute


def write_number(value: float) -> str:
    """The shortest plain decimal that reads back as exactly `value`."""
    text = format(Decimal(repr(float(value))), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def read_whole(field: Field, what: str, example: int, smallest: int, largest: int) -> int:
    """A whole number in smallest..largest; `what` and `example` are for the error."""
    if not re.fullmatch(r"[0-9]+", field.text):
        raise field.error(
            f"{what} needs a whole number, not '{field.text}'", f"write for example {what} {example}"
        )
    digits = field.text.lstrip("0") or "0"
    if len(digits) > 18 or not smallest <= int(digits) <= largest:
        fix = f"choose a number from {smallest} to {largest}"
        raise field.error(f"{what} {field.text} is out of range", fix)
    return int(digits)


def _read_option(field: Field) -> tuple[str, Any]:
    if _NUMBER_LIKE.match(field.text):
        return "seconds", _duration(field, "a duration", f"{write_number(DEFAULT_SECONDS)}s")
    name = field.word.lower()
    if name in _READERS:
        return name, _READERS[name](field.after(len(name)))
    word = _WORD.match(field.word)[0]  # type: ignore[index]  # an empty match is still a match
    if word.lower() == "lora":
        fix = "remove it; load the LoRA with --lora, or with a LoRA node in front of the sampler"
        raise field.error("LoRAs belong to the whole film, not to a segment", fix)
    known = f"options are a duration such as 5s, {', '.join(_READERS)}; a bar in a prompt is written \\|"
    raise field.error(f"unknown option '{field.word}'", suggest(word or field.word, _READERS, known))


def _recache(value: Field) -> float:
    if not _NUMBER.fullmatch(value.text) or float(value.text) > 1:
        message = f"recache needs a number from 0 to 1, not '{value.text}'"
        raise value.error(message, "write for example recache 0.8")
    return float(value.text)


def _mute(value: Field) -> bool:
    if value.text:
        raise value.error("mute takes no value", "write mute alone")
    return True


_READERS: dict[str, Callable[[Field], Any]] = {
    "seed": lambda value: read_whole(value, "seed", 7, 0, MAX_SEED),
    "recache": _recache,
    "blend": lambda value: _duration(value, "blend", "blend 1.5s"),
    "mute": _mute,
}


def _duration(field: Field, what: str, example: str) -> float:
    match = _DURATION.fullmatch(field.text)
    if match is None or not _NUMBER.fullmatch(match[1]):
        message = f"{what} is a number of seconds with an s, not '{field.text}'"
        raise field.error(message, f"write {_in_seconds(field.text) or example}")
    seconds = float(match[1])
    if not 0 < seconds <= MAX_SECONDS:
        fix = f"choose more than 0 and at most {MAX_SECONDS:g} seconds; split longer ones with then:"
        raise field.error(f"{what} of {match[1]} seconds is out of range", fix)
    return seconds


def _in_seconds(text: str) -> str | None:
    """What was probably meant by another way to write a time."""
    for pattern, scale in ((_SECONDS_WORD, 1), (_MINUTES, 60)):
        match = pattern.fullmatch(text)
        if match and _NUMBER.fullmatch(match[1]):
            return f"{write_number(float(match[1]) * scale)}s"
    clock = _CLOCK.fullmatch(text)
    return f"{int(clock[1]) * 60 + int(clock[2])}s" if clock else None
