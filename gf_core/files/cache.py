"""Where things that can be made again are kept between runs: the user's cache folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_dir(name: str) -> Path:
    """Folder for cached `name` things, created on demand by whoever writes there.

    `GROUNDED_CACHE` overrides it; otherwise the platform's own cache place is used.
    """
    chosen = os.environ.get("GROUNDED_CACHE")
    if chosen:
        return Path(chosen) / name
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "grounded" / name
