"""Rolling Forcing: as many chunks as there are steps are denoised in one call, the oldest the cleanest.

Every chunk that is fed moves the window on by one: a call takes each chunk in it from its noise level to the next, the
oldest is finished by it, written by a clean pass, and leaves. The first chunks of a segment and its last see a shorter
window. A chunk is finished as many chunks after it was fed as it has steps but one.

In training a call has a gradient where its chunks are at their `Chunk.exit`, and none goes from one call to the next.
Exits that fall by one from chunk to chunk, and begin anew at the last step, let one call in as many as there are steps
learn: such calls share no chunk, and every chunk is in one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import GroundedError
from .director import Director, Trace
from .sampler import Chunk, Clean, OnStep, Sampler
from .schedule import add_noise, flow_to_x0


@dataclass(frozen=True)
class UnderWay:
    """A chunk in the window."""

    index: int
    noise: Callable[[int], Tensor] | None
    """Where its noise comes from; None after a `restore`, until it is fed again."""
    noisy: Tensor
    """Latents [b f c h w] at the level of the step that comes next."""
    step: int
    """Number of that step."""
    exit: int | None = None
    """As `Chunk.exit`."""
    taken: Tensor | None = None
    """What that step predicted, behind it."""


class Rolling(Sampler):
    """A sampler whose latency is its number of steps less one."""

    def __init__(self, director: Director) -> None:
        """Raises GroundedError where a first chunk, made together with others, wants steps of its own."""
        sample = director.sample
        if sample.first_steps is not None and sample.first_steps != sample.steps:
            raise GroundedError(
                f"chunks that are denoised together cannot have other steps first ({sample.steps_in_words()})",
                fix="choose a memory that is not rolling for this model, or another model",
            )
        super().__init__(director)
        self._window: list[UnderWay] = []
        self._moves = 0

    def feed(self, chunk: Chunk, on_step: OnStep | None = None) -> Iterator[Clean]:
        """Take a chunk into the window and move it; gives the chunk that is finished by it, if one is.

        Until it has ended nothing has changed, and the same call gives the same again (but for a switch of prompts).
        """
        window = [
            replace(way, noise=chunk.noise, exit=chunk.exit) if way.index == chunk.index else way
            for way in self._window
        ]
        # Fed again after a `restore`: it brings noise and exit, and nothing moves.
        if self.holds(chunk.index):
            self._window = window
            return
        director = self.director
        (noise,) = director.bring(chunk.noise(0))
        yield from self._move([*window, UnderWay(chunk.index, chunk.noise, noise, 0, chunk.exit)], on_step)

    def flush(self) -> Iterator[Clean]:
        """Move the window without new chunks until it is empty."""
        while self._window:
            yield from self._move(self._window, None)

    def holds(self, index: int) -> bool:
        """Whether a chunk is in the window."""
        return any(way.index == index for way in self._window)

    def _move(self, window: list[UnderWay], on_step: OnStep | None) -> Iterator[Clean]:
        """One call over all chunks of the window, and the clean pass of the one that it finishes."""
        director = self.director
        director.prepare()
        frames = [way.noisy.shape[1] for way in window]
        levels = [self.levels[way.step] for way in window]
        # One for every latent frame, as the chunks of a window are at different levels.
        times = [level.timestep for level, count in zip(levels, frames) for _ in range(count)]
        x = torch.cat([way.noisy for way in window], 1)  # b f c h w
        learned = any(way.exit in (None, way.step) for way in window)
        with torch.set_grad_enabled(torch.is_grad_enabled() and learned):
            flow = director.predict(x, director.time(*times), director.open_joint(sum(frames)))
            parts = zip(x.split(frames, 1), flow.split(frames, 1), levels)
            denoised = [flow_to_x0(noisy, moved, level.sigma) for noisy, moved, level in parts]
        window = [
            replace(way, taken=clean) if way.exit == way.step else way for way, clean in zip(window, denoised)
        ]
        if director.watch is not None:
            director.watch(Trace("denoise", self._moves, x, flow, torch.cat(denoised, 1)))
        if on_step is not None:
            on_step(0, 1)
        rest = [
            self._next(way, clean) for way, clean in zip(window, denoised) if way.step + 1 < len(self.levels)
        ]
        finished = None
        # Only the oldest can be at its last step: every other is a step behind the one before it.
        if len(rest) < len(window):
            finished = Clean(window[0].index, denoised[0], window[0].taken)
            _, view = director.open(frames[0])
            director.remember(denoised[0], view)
        # Last, so that a move that is stopped leaves the window as it was.
        self._window, self._moves = rest, self._moves + 1
        if finished is not None:
            yield finished

    def _next(self, way: UnderWay, clean: Tensor) -> UnderWay:
        """A chunk at the level of its next step."""
        step = way.step + 1
        if way.noise is None:
            raise GroundedError(
                f"chunk {way.index} is on the way, and nobody has said where its noise comes from",
                fix="after restore(), feed the chunks on the way again before others",
            )
        (noise,) = self.director.bring(way.noise(step))
        return replace(way, noisy=add_noise(clean.detach(), noise, self.levels[step].sigma), step=step)

    def under_way(self) -> dict[str, Tensor]:
        """The noisy window."""
        state = {f"window.{place}": way.noisy.to("cpu", copy=True) for place, way in enumerate(self._window)}
        state["window"] = torch.tensor([[way.index, way.step] for way in self._window], dtype=torch.int64)
        return state

    def take_up(self, state: dict[str, Tensor]) -> None:
        """Go on with a window; its chunks are to be fed again, for their noise."""
        director = self.director
        self._window = [
            UnderWay(index, None, state[f"window.{place}"].to(director.device, director.dtype), step)
            for place, (index, step) in enumerate(state["window"].tolist())
        ]
