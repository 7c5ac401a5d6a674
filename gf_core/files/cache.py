"""Where things that can be made again are kept between runs: the user's cache folder."""

from __future__ import annotations

import atexit
import functools
import logging
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ..foreign import read_json
from .atomic import write_json

log = logging.getLogger("grounded")
T = TypeVar("T")
LARGEST = 1_000_000_000
"""Bytes of one kept thing; nothing that is kept comes near, and what a broken disk shows may be any."""


def cache_dir(name: str) -> Path:
    """Folder for cached `name` things, created on demand by whoever writes there.

    `GROUNDED_CACHE` overrides it; otherwise the platform's own cache place is used. A user without a home, as in some
    containers, gets a folder that the program forgets when it ends.
    """
    chosen = os.environ.get("GROUNDED_CACHE")
    if chosen:
        return Path(chosen) / name
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or _home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = _home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or _home() / ".cache")
    return base / "grounded" / name


@functools.cache
def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        folder = tempfile.TemporaryDirectory(prefix="grounded-")
        atexit.register(folder.cleanup)
        log.info(
            "there is no home folder: nothing is remembered between runs; set GROUNDED_CACHE to change that"
        )
        return Path(folder.name)


def read_kept(path: Path, most: int = LARGEST) -> bytes:
    """What lies there. Raises OSError: nothing, more than `most` bytes, or no file; a pipe would be waited for."""
    if path.exists() and not path.is_file():
        raise OSError("it is no file")
    if path.stat().st_size > most:
        raise OSError("it is larger than anything that is kept there")
    return path.read_bytes()


def recall(path: Path, read: Callable[[Any], T], otherwise: T, lost: str) -> T:
    """What `read` makes of the JSON in `path`; `otherwise` where there is none, or a damaged one, told as `lost`."""
    try:
        return read(read_json(read_kept(path)))
    except FileNotFoundError:
        return otherwise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s: %s: %s", lost, path.name, error)
        return otherwise


def remember(path: Path, value: Any, what: str) -> None:
    """Write `value` as JSON; a disk that refuses costs a line in the log that names `what`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, value)
    except OSError as error:
        log.warning("%s is not remembered: %s", what, error)


def newest(known: dict[str, T], key: str, value: T, most: int) -> dict[str, T]:
    """`known` with `value` last; of more than `most` the oldest are left out."""
    return dict([*((name, was) for name, was in known.items() if name != key), (key, value)][-most:])


def prune(folder: Path, most: int) -> None:
    """Remove the files that were used longest ago until `most` bytes are left; those of a running program stay."""
    files = []
    for path in folder.rglob("*"):
        try:
            if path.is_file():
                state = path.stat()
                files.append((max(state.st_atime, state.st_mtime), state.st_size, path))
        except OSError:  # another program has just removed it
            continue
    held = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if held <= most:
            return
        try:
            path.unlink()
        except OSError as error:
            log.info("%s stays: %s", path.name, error)
            continue
        held -= size
