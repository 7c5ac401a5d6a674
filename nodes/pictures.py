"""A drawn page as ComfyUI's IMAGE."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image


def image_tensor(image: Image.Image) -> torch.Tensor:
    """`image` as float32 [1 H W 3] in 0..1."""
    return torch.from_numpy(np.array(image.convert("RGB"), dtype=np.float32) / 255)[None]
