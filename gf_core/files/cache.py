"""Where things that can be made again are kept between runs: the user's cache folder."""

from __future__ import annotations

import atexit
import functools
import logging
import os
import sys
import tempfile
from pathlib import Path

log = logging.getLogger("grounded")


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
