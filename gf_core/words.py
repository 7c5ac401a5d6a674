"""Numbers in words (bytes, parameters, times, frame rates), and other people's words made fit to be shown."""

from __future__ import annotations

import math
import re
from fractions import Fraction

MOST_PARTS = 1001
"""Largest denominator of a frame rate; that of broadcasters."""
UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line ends, those that turn the direction of writing, and half characters."""

UNSEEN = "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060"
"""Characters without a width. In a prompt they are kept; elsewhere in a storyboard they count as blanks."""


def plain(text: object, most: int = 0) -> str:
    """`text` without what steers a terminal: such characters as `\\x1b`; cut after `most` characters, if given.

    >>> plain("a\\x1b[2J")
    'a\\\\x1b[2J'
    """
    shown = UNFIT.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))
    return f"{shown[:most]}..." if 0 < most < len(shown) else shown


def is_text(name: object) -> bool:
    """Whether a name is UTF-8: on some disks it may be any bytes, which not every library takes.

    >>> is_text("fox"), is_text("fo\\udcff")
    (True, False)
    """
    return not re.search("[\ud800-\udfff]", str(name))


def counted(count: int, one: str, many: str = "") -> str:
    """`1 segment`, `2 segments`; `many` where it is not `one` with an s."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def part_of(part: int, whole: int, one: str, does: str = "is", do: str = "are") -> str:
    """`1 of 6 segments is`, `3 of 6 segments are`, `1 of 1 segment is`; or what else it does."""
    return f"{part} of {counted(whole, one)} {does if 1 in (part, whole) else do}"


def size(count: float) -> str:
    """Bytes as an estimate tells them: `2.8 GB`, `35 MB`, never less than `1 MB`."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(1, round(count / 1e6))} MB"


def exact_size(count: float) -> str:
    """Bytes that lie there: `2.84 GB`, `35.4 MB`, `11 bytes`."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{int(count)} bytes"


def amount(count: float) -> str:
    """Parameters: `1.42 B`, `815 M`."""
    return f"{count / 1e9:.3g} B" if count >= 1e9 else f"{count / 1e6:.3g} M"


def clock(seconds: float, tenths: bool = False) -> str:
    """`0:21`, `12:05`, `1:02:03`; with `tenths` those that are not zero too: `0:07.5`."""
    whole, rest = divmod(max(0, round(seconds * 10)), 10) if tenths else (max(0, round(seconds)), 0)
    minutes, whole = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{whole:02d}" + (f".{rest}" if rest else "")
    return f"{hours}:{minutes:02d}:{text}" if hours else f"{minutes}:{text}"


def span(seconds: float) -> str:
    """How long something is likely to take: `7 s`, `1.5 min`, `3.2 h`, never less than `1 s`."""
    if seconds < 59.5:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.1f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def read_rate(text: str) -> int | float:
    """Pictures per second: `24`, `24.0`, `12.5`, `24000/1001`; `23.976` and `29.97` are what broadcasters mean by them.

    Raises ValueError: no such number, or one that is no fraction with 1001 parts at most.
    """
    if found := re.fullmatch(r"([0-9]{1,6})/([0-9]{1,4})", text):
        parts = int(found[2])
        fps = Fraction(int(found[1]), parts) if parts else Fraction(0)
    elif found := re.fullmatch(r"([0-9]{1,3})(?:\.([0-9]{0,9}))?", text):
        fps, decimals = Fraction(text), found[2] or ""
        above = math.ceil(fps)
        slowed = Fraction(1000 * above, 1001)
        if (
            len(decimals) >= 2
            and (above % 24 == 0 or above % 30 == 0)
            and round(slowed, len(decimals)) == fps
        ):
            fps = slowed
    else:
        fps = Fraction(0)
    if fps.denominator > MOST_PARTS or not fps:
        raise ValueError(f"{text[:40]} is no frame rate")
    return int(fps) if fps.denominator == 1 else float(fps)


def exact_rate(fps: float) -> Fraction:
    """The fraction that a rate stands for: 24000/1001 for 23.976023976023978."""
    return Fraction(fps).limit_denominator(MOST_PARTS)


def rate(fps: float) -> str:
    """What `read_rate` reads back as exactly that: `24`, `12.5`, `24000/1001`."""
    exact = exact_rate(fps)
    return f"{float(fps):.3f}".rstrip("0").rstrip(".") if 1000 % exact.denominator == 0 else str(exact)
