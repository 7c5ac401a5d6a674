"""Lengths as people write them: `5s`, `3,5 sec.`, `1m30s`, `0:01:30`, `500 ms`, `81 frames`.

What can be read in two ways is no length; what was probably meant is then said. web/timeline/lengths.js does the same.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

from .storyboard import MAX_SECONDS

_NAMES = {
    3600: "h hr hrs hour hours",
    60: "m min mins minute minutes 分",
    1: "s sec secs second seconds 秒",
    0.001: "ms msec msecs millisecond milliseconds",
}
_UNITS = {name: scale for scale, names in _NAMES.items() for name in names.split()}
_LONGEST = 400
"""Characters of a length; the smallest number that there is has 330."""

_AMOUNT = r"[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+"
_BARE = re.compile(_AMOUNT)
_PART = re.compile(rf"({_AMOUNT}) *([a-z秒分]+)\.? *")
_FRAMES = re.compile(r"([0-9]{1,9}) *(?:f|frames?)\.? *")
_CLOCK = re.compile(r"(?:([0-9]{1,3}):)?([0-9]{1,3}):([0-9]{2}(?:[.,][0-9]+)?) *s?")
_FRAME_CLOCK = re.compile(r"([0-9]{1,3}):([0-9]{2}):([0-9]{2})[:;]([0-9]{2,3})")
_POWER = re.compile(r"([0-9]+(?:\.[0-9]*)?e[+-]?[0-9]{1,3}) *s?")
_THOUSANDS = re.compile(r"([1-9][0-9]*),([0-9]{3})")


def read_length(text: str, fps: Fraction) -> float | None:
    """Seconds that `text` (half-width, lower case) says, below 0 after a minus; None if it says no length.

    fps: pictures per second, for lengths in frames.
    """
    if len(text) > _LONGEST:
        return None
    if text.startswith("-"):
        rest = text[1:].lstrip(" ")
        if rest.startswith("-"):
            return None
        length = _number(rest) if _BARE.fullmatch(rest) else read_length(rest, fps)
        return None if length is None else -length
    if clock := _CLOCK.fullmatch(text):
        hours, minutes, seconds = clock[1], int(clock[2]), _number(clock[3])
        if seconds is None or seconds >= 60 or (hours and minutes >= 60):
            return None
        return _micro(int(hours or 0) * 3600 + minutes * 60 + seconds)
    if frames := _FRAMES.fullmatch(text):
        return int(frames[1]) * fps.denominator / fps.numerator
    parts = _PART.findall(text)
    if not parts or _PART.sub("", text):
        return None
    amounts, scales = [_number(amount) for amount, _ in parts], [_UNITS.get(unit, 0) for _, unit in parts]
    # Larger units come first, each once.
    if None in amounts or 0 in scales or any(one <= other for one, other in pairwise(scales)):
        return None
    total = sum(amount * scale for amount, scale in zip(amounts, scales) if amount is not None)
    # Seconds alone stay the very number that was written.
    return total if scales == [1] else _micro(total)


def meant(text: str, fps: Fraction) -> str:
    """What was probably meant by a `text` that is no length: lengths that could be written in its place."""
    value: float | None = None
    if grouped := _THOUSANDS.match(text):
        return f"{grouped[1]}.{grouped[2].rstrip('0') or '0'}s or {grouped[1]}{grouped[2]}s"
    if text[:1] == "+":
        text = text[1:].lstrip(" ")
        value = read_length(text, fps)
    if len(text) > _LONGEST:
        pass
    elif _BARE.fullmatch(text):
        value = _number(text)
    elif power := _POWER.fullmatch(text):
        value = float(power[1])
    elif clock := _FRAME_CLOCK.fullmatch(text):
        hours, minutes, seconds, frames = map(int, clock.groups())
        if max(minutes, seconds) < 60 and frames < fps:
            value = _micro(hours * 3600 + minutes * 60 + seconds + frames * fps.denominator / fps.numerator)
    if value is not None and 0 < value <= MAX_SECONDS:
        return f"{write_number(value)}s"
    return "a length such as 5s, 1m30s, 1:30 or 81f"


def exactly(seconds: float) -> Fraction:
    """The decimal that was written, so that 0.1 s ten times is 1 s."""
    return Fraction(repr(float(seconds)))


def write_number(value: float) -> str:
    """The shortest plain decimal that reads back as exactly `value`."""
    text = format(Decimal(repr(float(value))), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _number(text: str) -> float | None:
    """A decimal with a point or a comma; None for `1,500`, which can be 1.5 and 1500."""
    return None if _THOUSANDS.fullmatch(text) else float(text.replace(",", "."))


def _micro(seconds: float) -> float:
    """Whole microseconds, as sums of minutes and milliseconds would leave dust behind."""
    return math.floor(seconds * 1e6 + 0.5) / 1e6 if seconds < 1e9 else seconds
