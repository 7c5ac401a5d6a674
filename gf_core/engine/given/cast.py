"""Pictures of the cast: found beside the storyboard, which needs no torch, and opened like a start image."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ...config import VideoSpec
from ...errors import GroundedError
from ...timeline.lines import suggest

if TYPE_CHECKING:
    from torch import Tensor

    from ...timeline import Storyboard
    from ...timeline.storyboard import Picture


def find_cast(board: Storyboard, folder: Path) -> dict[str, tuple[str, Picture]]:
    """By file, name and picture of everybody who is seen in an unmuted segment; all of them lie in `folder`.

    Raises StoryboardError: one does not.
    """
    seen = {file for n, part in enumerate(board.segments) if not part.mute for file in board.pictured(n)}
    found = {
        picture.file: (name, picture) for name, picture in board.pictures.items() if picture.file in seen
    }
    for file, (name, picture) in found.items():
        if not os.path.exists(folder / file):  # Path.exists raises for a name that is too long
            message = f"there is no picture {file} of {name} in {folder.name or 'this folder'}"
            beside = [other.name for other in folder.glob("*")]
            fix = "put it there, or remove it from the line"
            raise picture.error(message, suggest(file, beside, fix, "{}"))
    return found


def open_cast(board: Storyboard, folder: Path, video: VideoSpec) -> dict[str, Tensor]:
    """The pictures that `find_cast` finds, [1 H W 3] of the film's size, by file.

    Raises StoryboardError: one is not there or cannot be read, with its line.
    """
    found = find_cast(board, folder)
    if not found:
        return {}
    from .image import open_start_image

    pictures: dict[str, Tensor] = {}
    for file, (name, picture) in found.items():
        try:
            pictures[file] = open_start_image(folder / file, video, f"picture of {name}")
        except GroundedError as error:
            raise picture.error(error.message, error.fix) from error
    return pictures
