"""What a render is to make, from what: everything that is known before its first chunk."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from ..take.states import StateStore
from .film import Found
from .relief import Relief


@dataclass(frozen=True)
class Job(Found):
    """What a `Shoot` is to make of what was found."""

    store: StateStore
    """Where states are kept."""
    embeds: list[Tensor]
    """Prompt embeddings [1 rows c], one per segment; empty when nothing is sampled."""
    start: Tensor | None = None
    """Latents [1 f c h w] that the film starts from, when its first chunk is sampled."""
    pictures: dict[str, Tensor] = field(default_factory=dict)
    """Latents [1 1 c h w] of the cast's pictures, by file, when something is sampled."""
    relief: Relief = field(default_factory=Relief)
    """What is done when memory runs out."""
