"""A picture that a film starts from: opened, cropped to the film's shape, scaled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ..config import VideoSpec
from ..errors import GroundedError


def open_start_image(path: str | Path, video: VideoSpec) -> Tensor:
    """The picture at `path` as frames [1 H W 3] in 0..1 of the film's size; what overhangs is cut evenly.

    Raises:
        GroundedError: no readable picture there.
    """
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise GroundedError(
            f"the start image {path} cannot be read: {error}", "give a PNG or JPEG file"
        ) from error
    fitted = ImageOps.fit(upright, (video.width, video.height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(fitted, dtype=np.float32) / 255)[None]
