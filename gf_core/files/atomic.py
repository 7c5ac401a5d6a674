"""Writing that survives a kill and a power cut: temporary name, fsync, rename; and errors in words."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import RIGHTS, GroundedError, ResourceError, TakeError
from .names import LONGEST

MARK = 8
"""Hex digits in the name of a half-written file."""
ABANDONED = 3600
"""Seconds after which nobody writes to a half-written file any more."""


def sync_file(path: Path) -> None:
    """Push what was written to `path` down to the disk."""
    _sync(path, os.O_RDWR)


def sync_folder(folder: Path) -> None:
    """Push names made or renamed in `folder` down to the disk (Windows has no such call and needs none)."""
    if os.name != "nt":
        _sync(folder, os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> list[Path]:
    """Make `folder`, and those above it that are missing, their names pushed down to the disk; these, innermost first.

    Raises FileExistsError: a file has that name.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in made:
        sync_folder(path.parent)
    return made


def shortened(name: str, room: int = LONGEST) -> str:
    """As much of `name` as takes at most `room` bytes, as names are written here, cut at a whole character."""
    kept = name[: max(0, room)]
    while kept and len(os.fsencode(kept)) > room:
        kept = kept[:-1]
    return kept


def fitting(name: str, end: str) -> str:
    """`name` with `end` behind it; where that is too long for a disk, cut, with digits that only this name has."""
    if len(os.fsencode(name + end)) <= LONGEST:
        return name + end
    end = f"~{hashlib.sha256(os.fsencode(name)).hexdigest()[:MARK]}{end}"
    return shortened(name, LONGEST - len(os.fsencode(end))) + end


@contextmanager
def beside(path: Path, suffix: str = ".part", mark: str = "") -> Iterator[Path]:
    """A hidden name beside `path` that nobody else writes to; nothing is left under it after the block.

    mark: 8 hex digits in it that are the caller's alone, and those of who was killed before; else they are drawn.

    An OSError of that name tells of `path`, which is what somebody asked for.
    """
    part = path.with_name(f".{_room_for_mark(path, suffix)}.{mark or secrets.token_hex(MARK // 2)}{suffix}")
    if mark:  # what a kill left; or a link, which would be followed
        part.unlink(missing_ok=True)
    try:
        yield part
    except OSError as error:
        if error.filename == str(part):
            error.filename = str(path)
        raise
    finally:
        part.unlink(missing_ok=True)


def sweep_beside(path: Path, suffix: str = ".part") -> None:
    """Remove what kills left under the names that `beside` draws for `path`, and nobody has written to for an hour."""
    drawn = f".{glob.escape(_room_for_mark(path, suffix))}.{'[0-9a-f]' * MARK}{glob.escape(suffix)}"
    with suppress(OSError):
        for part in path.parent.glob(drawn):
            remove_abandoned(part)


def remove_abandoned(part: Path) -> bool:
    """Remove a half-written file that nobody has written to for an hour; whether it is gone. One that stays is left."""
    with suppress(OSError):
        if time.time() - part.lstat().st_mtime > ABANDONED:
            part.unlink()
            return True
    return False


def _room_for_mark(path: Path, suffix: str) -> str:
    """As much of the name of `path` as leaves room for what `beside` puts around it."""
    return shortened(path.name, LONGEST - len("..") - MARK - len(suffix))


def write_atomic(path: Path, write: Callable[[Path], object], mark: str = "") -> None:
    """Let `write` fill a temporary file beside `path`, then rename it: `path` is never seen half-written."""
    with beside(path, mark=mark) as part:
        write(part)
        put(part, path)


def put(part: Path, path: Path) -> None:
    """Give the finished file `part` the name `path`, pushed down to the disk before and after."""
    sync_file(part)
    os.replace(part, path)
    sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Atomic UTF-8 text file with the line ends given."""
    write_atomic(path, lambda part: part.write_bytes(text.encode("utf-8")))


def json_bytes(value: Any) -> bytes:
    """`value` as JSON, indented for people; half a character, as of a name that is no UTF-8, stays as an escape."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def write_json(path: Path, value: Any, mark: str = "") -> None:
    """Atomic JSON file."""
    write_atomic(path, lambda part: part.write_bytes(json_bytes(value)), mark)


def check_writable(folder: Path) -> None:
    """Make `folder` and try to write in it: nothing should be made before it turns out that it cannot be saved.

    Raises TakeError, ResourceError: it cannot be made or written.
    """
    try:
        make_folder(folder)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"film")
    except FileExistsError as error:
        raise TakeError(f"{folder} is a file, not a folder", "choose another place") from error
    except OSError as error:
        if error.errno == errno.ENOENT and folder.is_dir():  # it is no disk that the system shows there
            raise TakeError(f"no file can be made in {folder}", "choose another folder") from error
        raise disk_error(error, folder, "trying the folder") from error


def check_file(path: Path) -> None:
    """`check_writable` for the folder of a file that is to lie at `path`, and `check_length`."""
    check_length(path)
    check_writable(path.parent)


def check_length(path: Path) -> None:
    """Raises TakeError: the name of `path` is longer than a disk takes."""
    size = len(os.fsencode(path.name))
    if size > LONGEST:
        raise TakeError(
            f"{path.name} is too long a name: it has {size} bytes, a disk takes {LONGEST}",
            "choose a shorter name",
        )


@contextmanager
def on_disk(path: Path, doing: str) -> Iterator[None]:
    """Around what is done at `path`: what the system refuses there is raised as `disk_error` says it."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, path, doing) from error


def disk_error(error: OSError, path: Path, doing: str) -> GroundedError:
    """The GroundedError that tells a person what `error`, met while `doing` something at `path`, means."""
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return disk_full(path, doing)
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return ResourceError(
            f"no more files may be opened: {doing} failed at {path}",
            "close other programs, or raise the limit (ulimit -n), then run again",
        )
    if error.errno in RIGHTS:
        return TakeError(
            f"no permission to write: {doing} failed at {path}", "choose a folder that you may write to"
        )
    if error.errno == errno.ENAMETOOLONG:
        return TakeError(f"a name is too long: {doing} failed at {path}", "choose a shorter name")
    if error.errno == errno.ENOENT:
        return TakeError(
            f"the folder is gone: {doing} failed at {path}",
            "leave the Take's folder alone while a film is being made, and run again",
        )
    return TakeError(f"{doing} failed at {path}: {error}", "check the disk and the folder, then run again")


def disk_full(path: Path, doing: str) -> ResourceError:
    """The same where there is no room left."""
    return ResourceError(
        f"the disk is full: {doing} failed at {path}",
        "free some space or choose another folder; the film so far is kept and plays",
    )
