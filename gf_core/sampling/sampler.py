"""What every sampler is: it takes chunks of noise in film order and gives clean chunks when it has them.

A sampler that denoises one chunk at a time gives each at once (`chunkwise`); one that moves a window over several gives
them later and the rest when it is flushed. What it holds between two chunks is in its snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from .director import Director
from .schedule import timesteps

OnStep = Callable[[int, int], None]
"""Called after denoising step i of n of a chunk; what it raises ends the chunk, which has left nothing behind then."""


@dataclass(frozen=True)
class Chunk:
    """A chunk that is to be made."""

    index: int
    """Its place in the film, from 0."""
    noise: Callable[[int], Tensor]
    """Standard normal noise [b f c h w] of step i: 0 is what the chunk begins as, the others are added on the way."""
    exit: int | None = None
    """Denoising step whose prediction is the chunk, and the only one that gradients go through; None: the last, and
    gradients are the caller's (training, Self Forcing). Of chunks that are denoised together the prediction is told
    beside the chunk, whose film goes on to the last step."""
    context_noise: Tensor | None = None
    """Noise [b f c h w] that the clean pass reads the chunk under, at its own level (training, Self Forcing)."""


@dataclass(frozen=True)
class Clean:
    """A chunk that is made."""

    index: int
    latents: Tensor
    """Clean latents [b f c h w]."""
    taken: Tensor | None = None
    """What step `Chunk.exit` predicted [b f c h w], where that is not the chunk itself: what a loss sees of it."""

    @property
    def learned(self) -> Tensor:
        """What a loss sees."""
        return self.latents if self.taken is None else self.taken


class Sampler:
    """Makes the chunks of one film under the prompts that its director is given.

    A sampler is `feed`; one that has chunks on the way says what becomes of them.
    """

    def __init__(self, director: Director) -> None:
        self.director = director
        """Prompts and memory."""
        self.levels = timesteps(director.sample)

    @property
    def calls(self) -> int:
        """Network calls that a chunk takes (in chunks' worth of frames), the clean pass included."""
        return len(self.levels) + 1

    def feed(self, chunk: Chunk, on_step: OnStep | None = None) -> Iterator[Clean]:
        """Take the next chunk; gives those that are finished by it: none, one or several, in film order."""
        raise NotImplementedError

    def flush(self) -> Iterator[Clean]:
        """The shot or the film is over: the chunks that are still on the way."""
        return iter(())

    def holds(self, index: int) -> bool:
        """Whether a chunk of this number is on the way; feeding it again, after `restore`, brings its noise only."""
        return False

    def under_way(self) -> dict[str, Tensor]:
        """The part of a `snapshot` that is neither memory nor prompts: copies of what is on the way."""
        return {}

    def take_up(self, state: dict[str, Tensor]) -> None:
        """Go on with what was `under_way`, where memory and prompts are those of that moment."""

    def snapshot(self) -> dict[str, Tensor]:
        """Everything that decides the chunks to come, as copies of plain tensors."""
        return {**self.director.snapshot(), **self.under_way()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Return to a `snapshot` of a sampler with the same model, sizes and settings."""
        self.director.restore(state)
        self.take_up(state)
