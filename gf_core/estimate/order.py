"""A film as the estimate sees it: what is to be made, with what, and what of it is there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..config import Encoding, Recipe
from ..timeline.plan import Plan
from .room import ModelCost

if TYPE_CHECKING:
    from ..take.reuse import Reuse


@dataclass(frozen=True)
class Order:
    """What an estimate is asked for."""

    plan: Plan
    """All of the film."""
    cost: ModelCost
    """Of the model."""
    recipe: Recipe
    """Memory, sampler, size and speed."""
    encoding: Encoding = field(default_factory=Encoding)
    """How the film is encoded."""
    lead: int = 0
    """Latent frames that the film starts from, which lie in chunk 0."""
    stop: int | None = None
    """Chunks that the film is to have; None is all."""
    reuse: Reuse | None = None
    """What of them lies in the Take."""

    @property
    def chunks(self) -> int:
        """That the film is to have, of the plan's."""
        return self.plan.chunks if self.stop is None else self.stop

    @property
    def kept(self) -> int:
        """Chunks that are in the Take already, of `chunks`."""
        return 0 if self.reuse is None else len(self.reuse.chunks)

    @property
    def frames(self) -> int:
        """Pictures."""
        return self.pictures(self.chunks)

    def pictures(self, chunks: int) -> int:
        """Pictures of the film's first `chunks` chunks, the given ones included."""
        return self.plan.timing.pictures(chunks, self.lead)
