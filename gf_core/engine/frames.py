"""Decoded frames on their way out: to bytes for the film, to small pictures for the preview."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

PREVIEW_SIDE = 256
"""Longest side of a preview picture in pixels."""


def to_uint8(frames: Tensor) -> np.ndarray:
    """Frames [t H W 3] in 0..1 (clamped here) -> uint8 array of the same shape, rounded to nearest."""
    return frames.float().mul(255).round_().clamp_(0, 255).to(torch.uint8).cpu().numpy()


def preview(frames: np.ndarray, side: int = PREVIEW_SIDE) -> np.ndarray:
    """uint8 [t H W 3] -> uint8 [t h w 3] with the longer side at most `side`: means of square blocks."""
    t, height, width, _ = frames.shape
    step = -(-max(height, width) // side)
    if step == 1:
        return frames.copy()
    h, w = height // step, width // step
    blocks = frames[:, : h * step, : w * step].reshape(t, h, step, w, step, 3)
    return blocks.mean(axis=(2, 4), dtype=np.float32).round().astype(np.uint8)
