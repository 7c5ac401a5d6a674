"""What a film of training is made from: prompts, verbs, and the numbers that are drawn for it.

Every draw goes through `Draws`, so that a recorded step can be repeated and ranks agree where they must: what
decides how many network calls are made is drawn alike everywhere (a sharded network waits for all ranks), noise
and noise levels are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from ..sampling.schedule import TABLE
from ..timeline.verbs import Verb


class Draws(Protocol):
    """The random numbers of one step. A name says what a draw is for; no two draws of a step share one."""

    def whole(self, name: str, low: int, high: int) -> int:
        """A whole number in [low, high), the same on every rank."""
        ...

    def places(self, name: str, shape: tuple[int, ...], high: int = TABLE) -> Tensor:
        """Whole numbers in [0, high): noise levels of samples or of their frames."""
        ...

    def normal(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Standard normal noise."""
        ...


@dataclass(frozen=True)
class Cue:
    """A verb of the storyboard and the prompt that it brings in."""

    verb: Verb
    prompt: Tensor
    """[b rows c]"""
    recache: float | None = None
    """alpha_max of this switch; None: the memory's."""


@dataclass(frozen=True)
class ClipsGiven:
    """Clips that exist, for objectives that let the network see what it is to continue."""

    prompt: Tensor
    """Embeddings [b rows c]."""
    latents: Tensor
    """Clean latents [b f c h w]."""
    draws: Draws
    negative: Tensor | None = None
    """Embeddings [b rows c] of the unconditional side of guidance, where a teacher is asked."""
    states: Tensor | None = None
    """[b n f c h w] where a teacher's solver was at the student's n noise levels, and after them where it ended."""
    cues: Mapping[int, Cue] = field(default_factory=dict)
    """Chunk -> the verb that it begins with."""


@dataclass(frozen=True)
class FilmBatch:
    """Films to be made by the network itself: prompts only, no pictures."""

    prompt: Tensor
    """Embeddings [b rows c] that the film begins under."""
    negative: Tensor
    """Embeddings [b rows c] of the unconditional side of guidance."""
    latent: tuple[int, ...]
    """(channels, height, width) of a latent frame."""
    draws: Draws
    cues: Mapping[int, Cue] = field(default_factory=dict)
    """Chunk -> the verb that it begins with."""

    @property
    def told(self) -> Tensor:
        """The prompt that the film ends under, which teacher and critic judge it by (LongLive)."""
        return self.cues[max(self.cues)].prompt if self.cues else self.prompt
