"""What a film begins with: the pictures of a file, and which file that was."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...config import Recipe, latents_of
from ...errors import GroundedError
from ...words import UNFIT

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class StartFile:
    """The file that a film begins from, which is not in the film. Its pictures decide, so it is in no key."""

    name: str
    """Without its folder: where it lies is nobody's business to whom the film is sent."""
    sha256: str
    """Of its bytes, in hex."""
    pictures: int
    """How many of its pictures the film begins with."""

    def latent_frames(self, time_stride: int) -> int:
        """What they become; each makes the film `time_stride` pictures longer."""
        return latents_of(self.pictures, time_stride)

    def __str__(self) -> str:
        return f"{self.name} (SHA-256 {self.sha256[:12]})"


def start_of(value: Any) -> StartFile | None:
    """What a film or a report says it begins with; None where it says nothing of the kind."""
    try:
        name, digest, pictures = value["name"], value["sha256"], value["pictures"]
    except (TypeError, KeyError):
        return None
    if not (isinstance(name, str) and isinstance(digest, str) and isinstance(pictures, int)):
        return None
    return StartFile(UNFIT.sub("\ufffd", name), UNFIT.sub("\ufffd", digest), pictures)


def open_start(
    recipe: Recipe, image: Path | None, video: Path | None, time_stride: int = 4
) -> tuple[Tensor, StartFile] | tuple[None, None]:
    """The picture, or the end of the video, as frames [t H W 3] in 0..1 of the film's size, and the file it is.

    Raises GroundedError: both are given, or the one cannot be read.
    """
    if image is not None and video is not None:
        raise GroundedError("a film starts from a picture or from a video", "leave one of the two away")
    path = video or image
    if path is None:
        return None, None
    from .image import open_start_image
    from .video import open_start_video

    try:
        frames = (
            open_start_image(path, recipe.video)
            if video is None
            else open_start_video(path, recipe, time_stride)
        )
    except GroundedError as error:
        if not os.path.isfile(path):  # Path.is_file raises for a name that is too long
            raise GroundedError(error.message, "check the name and the folder") from error
        other = "a video is given as the start video" if video is None else "a picture as the start image"
        raise GroundedError(error.message, f"{error.fix}; {other}") from error
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return frames, StartFile(UNFIT.sub("\ufffd", path.name), digest.hexdigest(), len(frames))
