"""Text that people have written: UTF-8, or refused with the line at fault."""

from __future__ import annotations

from pathlib import Path

from ..errors import GroundedError


def as_text(data: bytes, name: str | Path) -> str:
    """What a text file holds, without the mark that some editors begin it with, every line ending with a line feed.

    name: what the file is called. Raises GroundedError: a byte is not UTF-8; with its line.
    """
    data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise GroundedError(
            f"{name}, line {line}: the byte {error.object[error.start]:02X} is not text in UTF-8",
            "save it as UTF-8 text; it may be in Latin-1, or in UTF-16",
        ) from error
