"""No model lies where one was named, which may be a hub's name or address. No torch, as in `files.absent`."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from ..errors import CheckpointError
from ..files.absent import missing
from .catalog import CATALOG


def refuse_missing(model: str | Path) -> None:
    """Raises CheckpointError: there is nothing at the path `model`; what cannot be looked at is told by its opening."""
    path = Path(os.path.expanduser(model))  # Path's own raises where nobody has that name, or a home
    with suppress(OSError):
        if not path.exists():
            error, said = missing(path), Path(model).as_posix().lower()
            rows = [row for row in CATALOG if row.repository.lower() in said]
            if not rows:
                raise error
            row = next((row for row in rows if Path(row.file).name.lower() in said), rows[0])
            files = f"{row.file} and {row.lora}" if row.lora else row.file
            page = f"https://huggingface.co/{row.repository}"
            raise CheckpointError(
                error.message, f"download {files} from {page} into one folder, and give its path."
            )
