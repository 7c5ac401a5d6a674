"""What lies in a folder. One that cannot be listed is said: `Path.glob` takes it for an empty one."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import GroundedError, reason

FIX = "check your rights to it and its disk, then run again"


def inside(folder: Path) -> list[Path]:
    """Everything in `folder`, by name; nothing where there is no such folder. Raises GroundedError: it cannot be
    listed."""
    try:
        return sorted(folder / name for name in os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise GroundedError(f"{folder} cannot be listed: {reason(error)}", FIX) from error


def below(folder: Path) -> list[Path]:
    """All files in `folder` and the folders below it, by their paths; links to folders are not followed.

    Raises GroundedError: one of the folders cannot be listed.
    """

    def refuse(error: OSError) -> None:
        if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
            raise GroundedError(f"{error.filename} cannot be listed: {reason(error)}", FIX) from error

    return sorted(Path(place) / name for place, _, names in os.walk(folder, onerror=refuse) for name in names)
