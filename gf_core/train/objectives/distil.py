"""A student of few steps: at the sampler's noise levels it learns where the teacher's guided ODE ends.

So the guidance is in the weights and a film costs one forward a step. Part of the batches is learned under a memory of
the student's own chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..batch import ClipBatch
from ..context import StreamOutput
from ..schedule import EMPTY
from . import Loss, Precision
from .flow import Heads, Net, corrupt, judge, per_frame


@dataclass(frozen=True, kw_only=True)
class Distilling:
    """How a student is taught."""

    draws: int = 3
    "noisy draws per clean chunk"
    guidance: float = 2.5
    "of the teacher when it makes a student's targets"
    solver_steps: int = 2
    "Euler steps from a student's noise level to the clean end"
    guess: float = 0.6
    "share of a student's batches whose memory holds its own chunks instead of true latents"
    generations: int = 3
    "most that such a memory is away from the truth"
    own: float = 0.0
    """share of a student's noisy chunks, below the highest level, that are noise on its own prediction from the level
    above instead of on the truth"""


class Distil:
    """Losses of a student. levels: the sampler's noise levels 0..1, highest first."""

    def __init__(
        self,
        net: Net,
        teacher: Net,
        precision: Precision,
        levels: Sequence[float],
        settings: Distilling,
        heads: Heads | None = None,
    ) -> None:
        self.net, self.teacher, self.precision = net, teacher, precision
        self.settings, self.heads = settings, heads or {}
        self.levels = torch.tensor(levels, device=precision.device)
        self.regenerated: Callable[[ClipBatch, Tensor], Tensor] = self._regenerate

    def __call__(self, batch: ClipBatch) -> Loss:
        """The loss of one batch; draws noise from torch's generator of the batch's device."""
        return self.loss(batch, self.context(batch))

    def context(self, batch: ClipBatch) -> Tensor:
        """Latents [b f c h w] that fill the memory: the truth, or what the net has made in its place."""
        context = corrupt(batch.latents)
        # Drawn on the processor, so that nothing waits for the card.
        if self.settings.guess and torch.rand(()).item() < self.settings.guess:
            for _ in range(int(torch.randint(1, self.settings.generations + 1, ()))):
                context = self.regenerated(batch, context)
        return context

    def loss(self, batch: ClipBatch, context: Tensor) -> Loss:
        """The loss of one batch behind `context`."""
        latents, device = batch.latents, batch.latents.device
        shape = (len(latents), self.settings.draws, batch.prompt.shape[1])
        size = latents.shape[1] // shape[2]
        level = torch.randint(len(self.levels), shape, device=device)  # b r chunks
        sigma = self.levels[level]  # b r chunks
        noise = torch.randn(len(latents), self.settings.draws, *latents.shape[1:], device=device)
        clean = self._predicted(batch, context, level) if self.settings.own else latents[:, None]
        noisy = torch.lerp(clean, noise, per_frame(sigma, size))  # b r f c h w
        # The teacher sees the true memory: the student learns to come back to it.
        end = self._solve(batch, noisy, sigma, size)  # b r f c h w
        keep = torch.zeros(shape, dtype=torch.bool, device=device)
        out = self._run(self.net, batch, context, noisy, sigma, keep)
        # The straight flow from the noisy latents to that end.
        return judge(out, (noisy - end) / per_frame(sigma, size), batch, self.heads)

    def _run(
        self, net: Net, batch: ClipBatch, context: Tensor, noisy: Tensor, sigma: Tensor, drop: Tensor
    ) -> StreamOutput:
        with self.precision.autocast():
            return net(batch, context, noisy, sigma, drop)

    @torch.no_grad()
    def _guided(self, batch: ClipBatch, noisy: Tensor, sigma: Tensor) -> Tensor:
        """The teacher's guided flow: both prompts run as draws of one forward."""
        drop = torch.cat([torch.zeros_like(sigma), torch.ones_like(sigma)], 1).bool()  # b 2r chunks
        twice = noisy.repeat(1, 2, 1, 1, 1, 1)  # b 2r f c h w
        out = self._run(self.teacher, batch, batch.latents, twice, sigma.repeat(1, 2, 1), drop)
        told, free = out.flow.float().chunk(2, 1)  # b r f c h w each
        return free + self.settings.guidance * (told - free)

    def _solve(self, batch: ClipBatch, noisy: Tensor, sigma: Tensor, size: int) -> Tensor:
        """Euler steps of the teacher from `noisy` down to clean latents."""
        x, here = noisy, sigma
        for step in range(self.settings.solver_steps):
            there = sigma * (1 - (step + 1) / self.settings.solver_steps)  # b r chunks
            x = x + self._guided(batch, x, here) * per_frame(there - here, size)
            here = there
        return x

    @torch.no_grad()
    def _predicted(self, batch: ClipBatch, context: Tensor, level: Tensor) -> Tensor:
        """Clean latents [b r f c h w] for noise of `level` [b r chunks]: the truth, or what the net makes of it.

        In a film the sampler noises what the net has just predicted, and all that a chunk shows is decided on the first
        level, from noise alone. Truth under the noise would tell the levels after it what only memory can.
        """
        size = batch.latents.shape[1] // level.shape[2]
        truth = batch.latents[:, None]
        above = self.levels[(level - 1).clamp_min(0)]
        noisy = torch.lerp(
            truth,
            torch.randn(*level.shape[:2], *truth.shape[2:], device=truth.device),
            per_frame(above, size),
        )  # b r f c h w
        flow = self._run(
            self.net, batch, context, noisy, above, torch.zeros_like(level, dtype=torch.bool)
        ).flow.float()
        mine = (level > 0) & (torch.rand(level.shape, device=level.device) < self.settings.own)  # b r chunks
        return torch.where(per_frame(mine, size), noisy - per_frame(above, size) * flow, truth)

    @torch.no_grad()
    def _regenerate(self, batch: ClipBatch, context: Tensor) -> Tensor:
        """Latents [b f c h w] as a long film's memory holds them: the net's own chunks, a generation after `context`.

        Each generation denoises a noised truth in two steps while looking at the one before, so what only memory can
        tell (a scarf, a hat) is handed on by the net and gets lost as in a film, and the truth under the noise keeps
        place and motion comparable with the target. A chunk without memory has nobody to tell it and stays close.
        """
        shape = (len(context), 1, batch.prompt.shape[1])
        size, last = context.shape[1] // shape[2], self.levels[-1]
        alone = (batch.schedule.slots == EMPTY).all(-1)[:, None]  # b 1 chunks
        keep = torch.zeros(shape, dtype=torch.bool, device=context.device)
        clean = batch.latents[:, None]
        for sigma in (torch.where(alone, last, self.levels[1]), last.expand(shape)):
            level = per_frame(sigma, size)
            noisy = torch.lerp(clean, torch.randn_like(clean), level)
            clean = noisy - level * self._run(self.net, batch, context, noisy, sigma, keep).flow.float()
        return clean[:, 0]
