"""Where noise comes from: a function of (segment seed, chunk in the segment, step), drawn on the CPU.

Lengthening one segment therefore leaves the noise of every other as it was, and a seed means the same on every
device. `FilmNoise` is the reference repositories' order (one generator for the whole film), for comparisons only.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def _generator(*key: int) -> torch.Generator:
    digest = hashlib.blake2b(" ".join(map(str, key)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


def chunk_noise(segment_seed: int, chunk_index: int, step: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal float32 on the CPU: step 0 is a chunk's initial noise, step i > 0 its i-th re-noise."""
    return torch.randn(shape, generator=_generator(segment_seed, chunk_index, step))


class FilmNoise:
    """One generator for the whole film: all initial noise in one draw, then one draw per re-noise, in call order."""

    def __init__(self, seed: int, shape: tuple[int, ...]) -> None:
        """shape: the film's latents [b f c h w]."""
        self._generator = torch.Generator().manual_seed(seed)
        self._initial = torch.randn(shape, generator=self._generator)

    def initial(self, start: int, frames: int) -> Tensor:
        """Initial noise [b frames c h w] of the chunk that starts at latent frame `start`."""
        return self._initial[:, start : start + frames]

    def renoise(self, frames: int) -> Tensor:
        """The next draw [b frames c h w] of the one generator."""
        b, _, c, h, w = self._initial.shape
        return torch.randn((b * frames, c, h, w), generator=self._generator).unflatten(0, (b, frames))
