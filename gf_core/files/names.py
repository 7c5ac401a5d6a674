"""Names of files and folders that every system takes: what one refuses is refused on all, before there is any work."""

from __future__ import annotations

import re
from collections.abc import Sequence

LONGEST = 255
"""Bytes of a name in UTF-8 that systems take."""
DEEPEST = 1000
"""Bytes of a path below one of our folders."""
PICKLE_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin")
MODEL_SUFFIXES = (".safetensors", *PICKLE_SUFFIXES, ".gguf")
_DEVICE = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³])\s*(?:\..*)?", re.I | re.S)
_SIGNS = re.compile(r"[\x00-\x1f\x7f<>:\"|?*\\/]")


def fault_of(name: str, behind: int = 0) -> str:
    """What some system would not take about `name`, one part of a path; "" for a name that all do.

    behind: bytes that are still to come after it, such as a number and an ending.

    >>> fault_of("fox"), fault_of("nul.txt")
    ('', 'Windows keeps it for a device')
    """
    if not name.strip(" ."):
        return "a part of it is empty"
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        return "it holds half a character"
    if size + behind > LONGEST:
        return f"it is {size} bytes long, and {LONGEST - behind} are the most"
    sign = _SIGNS.search(name)
    if sign:
        return f"{sign[0]!r} cannot be in a name"
    if name[-1] in " .":
        return f"it ends with {name[-1]!r}"
    return "Windows keeps it for a device" if _DEVICE.fullmatch(name) else ""


def fault_along(parts: Sequence[str], behind: int = 0) -> str:
    """`fault_of` for a whole path; `behind` is for its last part."""
    *folders, last = parts
    fault = next(filter(None, map(fault_of, folders)), "") or fault_of(last, behind)
    too_deep = not fault and len("/".join(parts).encode("utf-8")) > DEEPEST
    return f"it is longer than {DEEPEST} bytes" if too_deep else fault
