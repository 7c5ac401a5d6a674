"""A Take is somebody else's folder, perhaps unpacked from somewhere: what is opened in it is looked at first.

Only plain files in plain folders count. A link is not followed, and what would hang or never end (a pipe, a device) is
not opened; a folder in place of a file is none.
"""

from __future__ import annotations

import logging
import re
import stat
import zlib
from collections.abc import Iterable
from pathlib import Path

from ..errors import GroundedError, TakeError, reason
from ..files.listing import inside

log = logging.getLogger("grounded")

BLOCK = 1 << 20
_PART = re.compile(
    r"\.?(\d{6}-[0-9a-f]{24}\.(memory|decoder|window)\.safetensors|\d{6}\.safetensors|settings\.json|timeline\.txt|report\.json)"
    r"(\.[0-9a-f]{8})?\.part"
    r"|\.([^/]+\.mp4|takes\.json)\.[0-9a-f]{8}\.part|\.sheet\.png\.[0-9a-f]{8}\.png"
)
"""What a file of a Take is called while it is being written."""


def is_file(path: Path) -> bool:
    """Whether a plain file lies at `path`, in a folder that is no link."""
    return not path.parent.is_symlink() and stat.S_ISREG(_mode(path))


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder, and no link to one."""
    return stat.S_ISDIR(_mode(path))


def _mode(path: Path) -> int:
    try:
        return path.lstat().st_mode
    except (OSError, ValueError):
        return 0  # neither a file nor a folder


def read_file(path: Path) -> bytes:
    """The bytes of a plain file. Raises OSError: there is none, or it cannot be read."""
    if path.exists() and not is_file(path):
        raise OSError(f"{path.name} is no plain file")
    return path.read_bytes()


def checksum(path: Path, start: int, end: int) -> str | None:
    """CRC-32 of the bytes `start` to `end` of a plain file, as 8 hex digits; None where it has not that many.

    Raises OSError: it cannot be read.
    """
    if not is_file(path) or not 0 <= start <= end:
        return None
    crc = 0
    with open(path, "rb") as file:
        file.seek(start)
        while start < end:
            block = file.read(min(BLOCK, end - start))
            if not block:
                return None
            crc = zlib.crc32(block, crc)
            start += len(block)
    return f"{crc:08x}"


def listed(folder: Path) -> list[Path]:
    """Everything in `folder`, by name; nothing where there is no such folder.

    Raises TakeError: it cannot be listed. Taken for an empty one, what lies there would be made again, or removed.
    """
    try:
        return inside(folder)
    except GroundedError as error:
        raise TakeError(error.message, error.fix) from error


def segments(take: Path) -> list[Path]:
    """The folders of segments' takes in the Take `take`. Raises TakeError: it cannot be listed."""
    return [path for path in listed(take) if path.name.startswith("segment-") and is_folder(path)]


def sweep(folders: Iterable[Path]) -> None:
    """Remove what a killed render left half-written in these folders; a state can be gigabytes.

    Raises TakeError: one cannot be listed.
    """
    for folder in folders:
        for path in listed(folder) if is_folder(folder) else ():
            if _PART.fullmatch(path.name) and is_file(path):
                try:
                    path.unlink()
                except OSError as error:
                    log.info("%s is left over and cannot be removed: %s", path, reason(error))
