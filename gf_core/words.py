"""Numbers in words (bytes, parameters, times), and other people's words made fit to be shown."""

from __future__ import annotations

import re

_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line ends, those that turn the direction of writing, and half characters."""


def plain(text: object, most: int = 0) -> str:
    """`text` without what steers a terminal: such characters as `\\x1b`; cut after `most` characters, if given.

    >>> plain("a\\x1b[2J")
    'a\\\\x1b[2J'
    """
    shown = _UNFIT.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))
    return f"{shown[:most]}..." if 0 < most < len(shown) else shown


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
