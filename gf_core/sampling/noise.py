"""Where noise comes from: a function of (segment seed, chunk in the segment, step), drawn on the CPU.

Lengthening one segment therefore leaves the noise of every other as it was, and a seed means the same on every device.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def chunk_noise(segment_seed: int, chunk_index: int, step: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal float32 on the CPU: step 0 is a chunk's initial noise, step i > 0 its i-th re-noise."""
    key = f"{segment_seed} {chunk_index} {step}".encode()
    seed = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 1
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
