"""A student of few steps matched in distribution to its teacher, every chunk of a clip behind the memory it will have.

Distribution matching (DMD, arXiv 2311.18828) with the parts of `distil`: the memory is of the student's own chunks and
the teacher judges behind the true one, so that it knows what only memory can tell. The critic judges behind what the
student saw. A chunk is made as the sampler makes it, from noise alone down to a level drawn for the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..batch import ClipBatch
from . import Loss, Precision
from .distil import Distil, Distilling
from .flow import Net, flow_loss, per_frame, random_sigmas

LOWEST, HIGHEST = 0.02, 0.98
"""Noise levels that a made chunk is judged at, as Self Forcing has them."""


@dataclass(frozen=True, kw_only=True)
class Sharpening(Distilling):
    """How it is matched, beside how its memories are made."""

    every: int = 2
    "steps of the critic for one of the student, which comes with the first of them"
    ahead: int = 30
    "steps that the critic has to itself before that"


class Sharpen(Distil):
    """Losses of student and critic. step: how many steps there have been. shift: of the levels that are judged at."""

    def __init__(
        self,
        nets: tuple[Net, Net, Net],
        precision: Precision,
        levels: Sequence[float],
        settings: Sharpening,
        shift: float,
        step: Callable[[], int],
    ) -> None:
        """nets: student, teacher and critic."""
        super().__init__(nets[0], nets[1], precision, levels, settings)
        self.critic, self.every, self.ahead = nets[2], settings.every, settings.ahead
        self.shift, self.step = shift, step

    def loss(self, batch: ClipBatch, context: Tensor) -> Loss:
        """The critic's loss behind `context`, and the student's where it is its turn."""
        behind = self.step() - self.ahead
        learns = behind >= 0 and behind % self.every == 0
        made = self.made(batch, context, graph=learns)
        total = self._learn(batch, context, made.detach())
        parts = {"critic": total.detach()}
        if learns:
            gradient = self._gradient(batch, context, made.detach())
            # Half the squared distance to where the gradient leads: its own gradient is that one.
            total = total + 0.5 * flow_loss(made, (made - gradient).detach(), batch)
            parts["dmd_gradient"] = gradient.abs().mean()
        return Loss(total, parts)

    def made(self, batch: ClipBatch, context: Tensor, *, graph: bool) -> Tensor:
        """Clean latents [b r f c h w] of the student's sampler, left at a level drawn for the batch.

        graph: of the call at that level; those above it have none.
        """
        draws = self.settings.draws
        shape = (len(context), draws, batch.prompt.shape[1])  # b r chunks
        noisy = clean = torch.randn(len(context), draws, *context.shape[1:], device=context.device)
        # Drawn on the processor, so that nothing waits for the card.
        last = int(torch.randint(len(self.levels), ()))
        for number, level in enumerate(self.levels[: last + 1]):
            sigma = level.expand(shape)
            if number:
                noisy = torch.lerp(clean, torch.randn_like(clean), level)
            with torch.set_grad_enabled(graph and number == last):
                clean = noisy - level * self._flow(self.net, batch, context, noisy, sigma)
        return clean

    def _learn(self, batch: ClipBatch, context: Tensor, made: Tensor) -> Tensor:
        """Flow matching of the critic on what was made."""
        noisy, noise, sigma = self._noised(batch, made)
        return flow_loss(self._flow(self.critic, batch, context, noisy, sigma), noise - made, batch)

    @torch.no_grad()
    def _gradient(self, batch: ClipBatch, context: Tensor, made: Tensor) -> Tensor:
        """From what the teacher sees in a noised chunk to what the critic does: [b r f c h w], in the chunk's unit."""
        noisy, _, sigma = self._noised(batch, made)
        size = made.shape[2] // sigma.shape[2]
        level = per_frame(sigma, size)
        real = noisy - level * self._guided(batch, noisy, sigma)
        fake = noisy - level * self._flow(self.critic, batch, context, noisy, sigma)
        apart, away = (x.unflatten(2, (-1, size)) for x in (fake - real, made - real))  # b r chunks f c h w
        unit = away.abs().mean((3, 4, 5, 6), keepdim=True).clamp_min(1e-3)
        return (apart / unit).flatten(2, 3)

    def _noised(self, batch: ClipBatch, made: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What was made under noise, the noise [b r f c h w each], and its levels [b r chunks]."""
        shape = (*made.shape[:2], batch.prompt.shape[1])
        sigma = random_sigmas(shape, self.shift, made.device).clamp(LOWEST, HIGHEST)
        noise = torch.randn_like(made)
        return torch.lerp(made, noise, per_frame(sigma, made.shape[2] // shape[2])), noise, sigma

    def _flow(self, net: Net, batch: ClipBatch, context: Tensor, noisy: Tensor, sigma: Tensor) -> Tensor:
        """The flow of a network that is told its prompts."""
        keep = torch.zeros_like(sigma, dtype=torch.bool)
        return self._run(net, batch, context, noisy, sigma, keep).flow.float()
