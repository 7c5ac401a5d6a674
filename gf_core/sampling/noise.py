"""Where noise comes from: a function of (segment seed, chunk in the segment, step), drawn on the CPU.

Lengthening one segment therefore leaves the noise of every other as it was, and a seed means the same on every device.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from .frequencies import low_pass, mix


def chunk_noise(
    segment_seed: int, chunk_index: int, step: int, shape: tuple[int, ...], steady: float = 0.0
) -> Tensor:
    """Standard normal float32 on the CPU: step 0 is a chunk's initial noise, step i > 0 its i-th re-noise.

    shape: [b f c h w]. steady: share of the frequencies in which initial noise is that of the segment's first chunk.
    """
    if steady and chunk_index and not step:
        first, own = (chunk_noise(segment_seed, index, 0, shape) for index in (0, chunk_index))
        frames, _, rows, columns = shape[1:]
        mask = low_pass("butterworth", (frames, rows, columns), steady, steady)
        return mix(first.transpose(1, 2), own.transpose(1, 2), mask).transpose(1, 2).contiguous()
    key = f"{segment_seed} {chunk_index} {step}".encode()
    seed = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 1
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
