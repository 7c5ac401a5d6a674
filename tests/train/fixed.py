"""Weights and inputs that depend on nothing but a seed, for steps that must stay what they are."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from gf_core.sampling.schedule import TABLE

CLIPS, CHUNKS, FRAMES = 2, 5, 15


class RandomDraws:
    """`films.Draws` of two generators: `own` of a rank, and `shared`, seeded alike on every rank."""

    def __init__(self, own: torch.Generator, shared: torch.Generator) -> None:
        self.own, self.shared = own, shared

    def whole(self, name: str, low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=self.shared))

    def places(self, name: str, shape: tuple[int, ...], high: int = TABLE) -> Tensor:
        return torch.randint(high, shape, generator=self.own)

    def normal(self, name: str, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=self.own)


def generator(name: str) -> torch.Generator:
    return torch.Generator().manual_seed(zlib.crc32(name.encode()))


@torch.no_grad()
def fill(named: Iterable[tuple[str, nn.Parameter]], salt: str = "") -> None:
    """Every parameter from its name: matrices at unit gain, norms near one, the rest near zero."""
    for name, p in named:
        noise = torch.randn(p.shape, generator=generator(salt + name))
        if p.ndim > 1 and not name.endswith(("modulation", "position")):
            p.copy_(noise * p[0].numel() ** -0.5)
        else:
            p.copy_(noise * 0.1 + float("norm" in name and name.endswith("weight")))


def clips() -> dict[str, Tensor]:
    """Latents, weights, labels and prompts of two clips: latents [2 15 16 8 12], four prompts of up to six words."""
    g = generator("clips")
    counts = (6, 6, 6, 4, 3, 6, 3, 6)
    labels = [torch.randint(n, (CLIPS, CHUNKS), generator=g) for n in counts]
    return {
        "latents": torch.randn(CLIPS, FRAMES, 16, 8, 12, generator=g),
        "weight": torch.rand(CLIPS, FRAMES, 8, 12, generator=g),
        "labels": torch.stack(labels, -1),
        "ids": torch.randint(1, 70, (CLIPS, 4, 6), generator=g),
        "lengths": torch.tensor([[6, 4, 5, 1], [5, 6, 1, 1]]),
        "prompt": torch.tensor([[0, 0, 0, 1, 1], [0, 0, 1, 1, 1]]),
    }


def pictures() -> dict[str, Tensor]:
    """Three crops of five frames with a subject in the middle."""
    g = generator("pictures")
    mask = torch.zeros(3, 5, 48, 48)
    mask[:, :, 10:34, 14:30] = 1
    counts = (6, 6, 6, 4, 3, 6, 3)
    labels = [torch.randint(n, (3, 5), generator=g) for n in counts]
    return {
        "frames": torch.rand(3, 5, 48, 48, 3, generator=g),
        "mask": mask,
        "labels": torch.stack(labels, -1),
    }


def windows() -> dict[str, Tensor]:
    """Four windows of twelve frames for the reader."""
    g = generator("windows")
    counts = (6, 6, 6, 4, 3, 6, 3, 6)
    labels = [torch.randint(n, (4, 12), generator=g) for n in counts]
    corner = torch.rand(4, 12, 2, generator=g) * 20 + 30
    return {
        "frames": torch.randint(256, (4, 12, 64, 96, 3), generator=g, dtype=torch.uint8),
        "halves": torch.randint(256, (4, 12, 32, 48, 3), generator=g, dtype=torch.uint8),
        "labels": torch.stack(labels, -1),
        "boxes": torch.cat([corner, torch.rand(4, 12, 2, generator=g) * 10 + 20], -1),
        "mask": torch.rand(4, 12, 16, 24, generator=g),
    }
