"""Pictures of the cast: found beside the storyboard, and opened like a start image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..config import VideoSpec
from ..errors import GroundedError, StoryboardError
from .start_image import open_start_image

if TYPE_CHECKING:
    from torch import Tensor

    from ..timeline import Storyboard


def open_cast(board: Storyboard, folder: Path, video: VideoSpec) -> dict[str, Tensor]:
    """By file, every picture [1 H W 3] of the film's size that is seen in an unmuted segment; they lie in `folder`.

    Raises:
        StoryboardError: one is not there or cannot be read, with its line.
    """
    seen = {file for n, part in enumerate(board.segments) if not part.mute for file in board.pictured(n)}
    lines = {
        picture.file: (name, picture.line) for name, picture in board.pictures.items() if picture.file in seen
    }
    found: dict[str, Tensor] = {}
    for file, (name, line) in lines.items():
        path = folder / file
        if not path.exists():
            raise StoryboardError(
                f"there is no picture {file} of {name} in {folder.name or 'this folder'}",
                "put it there, or remove it from the line",
                line=line,
                column=1 if line else 0,
            )
        try:
            found[file] = open_start_image(path, video, f"picture of {name}")
        except GroundedError as error:
            raise StoryboardError(error.message, error.fix, line=line, column=1 if line else 0) from error
    return found
