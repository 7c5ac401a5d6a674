"""Nothing lies where a model file should be. No torch, so that this is said at once."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from ..errors import CheckpointError
from .names import MODEL_SUFFIXES


def missing(path: Path) -> CheckpointError:
    """What to say where nothing lies at a model's `path`. Raises OSError: its folder cannot be listed."""
    folder, said = path.parent, path.as_posix()
    if address := re.fullmatch(r"(\w{2,}:)/+(.+)", said):
        return CheckpointError(
            f"{address[1]}//{address[2]} is an address, not a file on this computer",
            "download it, put it into a folder of yours, and give its path.",
        )
    if not path.is_absolute() and len(path.parts) > 1 and not Path(path.parts[0]).is_dir():
        page = "/".join(path.parts[:2])
        return CheckpointError(
            f"there is no folder {path.parts[0]} here",
            f"check the path; if {page} is a name on Hugging Face, download the file from "
            f"https://huggingface.co/{page} and give its path.",
        )
    if not folder.is_dir():
        return CheckpointError(f"there is no folder {folder}", f"check the path {said}")
    names = sorted(p.name for p in folder.iterdir() if p.is_dir() or p.suffix.lower() in MODEL_SUFFIXES)
    close = difflib.get_close_matches(path.name[:255], names, n=3, cutoff=0.5)
    fix = f"did you mean {' or '.join(close)}?" if close else "check the name and the folder."
    return CheckpointError(f"there is no {path.name} in {folder}", fix)
