"""What a render is to make, from what: everything that is known before its first chunk."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from ..take.reuse import Reuse
from ..take.states import StateStore
from .film import Film
from .relief import Relief


@dataclass(frozen=True)
class Job:
    """What a `Shoot` is to make."""

    film: Film
    stop: int
    """Chunks that the film is to have in the end."""
    reuse: Reuse
    """What of them lies in the Take."""
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
