"""The random numbers of a step of films: by the number of the sample, so that ranks and resumes change nothing."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from ..sampling.schedule import TABLE


class SampleDraws:
    """`films.Draws` whose noise belongs to a sample's number in the run, and whose lengths belong to the batch's.

    Nothing of it is kept in a checkpoint: step and sample say it all. Samples 6 and 7 get the same noise whether one
    rank makes both or two ranks one each; what decides how many network calls are made is the same on every rank.
    """

    def __init__(self, seed: int, batch: int, samples: range, device: torch.device) -> None:
        """batch: number of the batch in the run, the same on all ranks; samples: those of this rank."""
        self._shared = seed, batch
        self._own = [torch.Generator(device).manual_seed(_mixed(seed, "sample", n)) for n in samples]

    def whole(self, name: str, low: int, high: int) -> int:
        """As `films.Draws.whole`; the same name is the same number however often it is asked for."""
        rng = torch.Generator().manual_seed(_mixed(*self._shared, name))
        return int(torch.randint(low, high, (), generator=rng))

    def places(self, name: str, shape: tuple[int, ...], high: int = TABLE) -> Tensor:
        """As `films.Draws.places`."""
        return torch.stack([torch.randint(high, shape[1:], generator=o, device=o.device) for o in self._own])

    def normal(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """As `films.Draws.normal`."""
        return torch.stack([torch.randn(shape[1:], generator=own, device=own.device) for own in self._own])


def _mixed(*parts: object) -> int:
    """One seed of several numbers."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=7).digest(), "big")
