"""Low frequencies of one noise with the high ones of another (FreeInit): what is coarse stays, what is fine is new."""

from __future__ import annotations

import torch
from torch import Tensor


def low_pass(shape: tuple[int, int, int], space: float, time: float, order: int = 4) -> Tensor:
    """Share [t h w] of every frequency that passes a Butterworth filter, the lowest in the middle, float32.

    shape: frames, rows, columns. space, time: where the filter ends, as a share of the range; 0 lets nothing pass.
    order: its steepness. As in the published code, of odd sizes the lowest frequency is a hair off.
    """
    if space == 0 or time == 0:
        return torch.zeros(shape)
    t, h, w = (2 * torch.arange(size, dtype=torch.float64) / size - 1 for size in shape)
    far = (space / time * t)[:, None, None] ** 2 + h[:, None] ** 2 + w**2  # squared distance
    return (1 / (1 + (far / space**2) ** order)).float()


def mix(low: Tensor, high: Tensor, mask: Tensor) -> Tensor:
    """The frequencies of `low` [... t h w] that `mask` [t h w] lets pass, and the others of `high`.

    The sum of two noises is a little quieter or louder than either where the mask is neither 0 nor 1.
    """
    axes = (-3, -2, -1)
    parts = [torch.fft.fftshift(torch.fft.fftn(x.float(), dim=axes), dim=axes) for x in (low, high)]
    both = parts[0] * mask + parts[1] * (1 - mask)
    return torch.fft.ifftn(torch.fft.ifftshift(both, dim=axes), dim=axes).real
