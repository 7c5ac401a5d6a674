"""Flow matching under the engine's own memory, at noise levels drawn at random; a few prompts are dropped.

The network learns from contexts that are a little wrong, because a film's memory always is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from ..batch import ClipBatch
from ..context import StreamOutput
from . import Loss, Precision

UNPROMPTED = 0.1
"""Share of chunks that are learned without their prompt."""


class Net(Protocol):
    """What `ContextNet.forward` does."""

    def __call__(
        self, batch: ClipBatch, context: Tensor, noisy: Tensor, sigma: Tensor, drop: Tensor
    ) -> StreamOutput: ...


Heads = Mapping[str, tuple[float, Callable[[StreamOutput, ClipBatch], Tensor]]]
"""Further losses on the network's output by name, with their weights."""


def per_frame(values: Tensor, size: int) -> Tensor:
    """[b r chunks] to [b r f 1 1 1]."""
    return values.repeat_interleave(size, 2)[..., None, None, None]


def random_sigmas(shape: tuple[int, ...], shift: float, device: torch.device) -> Tensor:
    """Noise levels 0..1, uniform before the sampler's time shift."""
    u = torch.rand(shape, device=device)
    # `Schedule`'s shift, at any place and not at its entries alone.
    return shift * u / (1 + (shift - 1) * u)


def corrupt(latents: Tensor) -> Tensor:
    """Latents [b f c h w] with up to 15 % noise in half of the clips."""
    n, device = len(latents), latents.device
    amount = torch.rand(n, device=device) * 0.15 * (torch.rand(n, device=device) < 0.5)  # b
    return torch.lerp(latents, torch.randn_like(latents), amount[:, None, None, None, None])


def flow_loss(flow: Tensor, target: Tensor, batch: ClipBatch) -> Tensor:
    """Squared error [b r f c h w], cells of full weight counted four times."""
    weight = 1 + 3 * batch.weight[:, None, :, None]  # b 1 f 1 h w
    # By the mean weight: a batch that shows more of its subject weighs no more than others.
    return ((flow.float() - target) ** 2 * weight).mean() / weight.mean()


def judge(out: StreamOutput, target: Tensor, batch: ClipBatch, heads: Heads) -> Loss:
    """The loss of an output: its flow against `target`, and what the heads say."""
    total = flow_loss(out.flow, target, batch)
    parts = {"flow": total.detach()}
    for name, (weight, head) in heads.items():
        value = head(out, batch)
        total, parts[name] = total + weight * value, value.detach()
    return Loss(total, parts)


class Flow:
    """Flow matching of every chunk of a clip.

    draws: noisy draws per clean chunk. shift: the sampler's time shift.
    """

    def __init__(
        self,
        net: Net,
        precision: Precision,
        *,
        draws: int = 3,
        shift: float = 3.0,
        heads: Heads | None = None,
    ) -> None:
        self.net, self.precision, self.draws = net, precision, draws
        self.shift, self.heads = shift, heads or {}

    def __call__(self, batch: ClipBatch) -> Loss:
        """The loss of one batch; draws noise from torch's generator of the batch's device."""
        return self.loss(batch, self.context(batch))

    def context(self, batch: ClipBatch) -> Tensor:
        """Latents [b f c h w] that fill the memory."""
        return corrupt(batch.latents)

    def loss(self, batch: ClipBatch, context: Tensor) -> Loss:
        """The loss of one batch behind `context`."""
        latents, device = batch.latents, batch.latents.device
        shape = (len(latents), self.draws, batch.prompt.shape[1])
        sigma = random_sigmas(shape, self.shift, device)  # b r chunks
        noise = torch.randn(len(latents), self.draws, *latents.shape[1:], device=device)  # b r f c h w
        noisy = torch.lerp(latents[:, None], noise, per_frame(sigma, latents.shape[1] // shape[2]))
        drop = torch.rand(shape, device=device) < UNPROMPTED  # b r chunks
        with self.precision.autocast():
            out = self.net(batch, context, noisy, sigma, drop)
        return judge(out, noise - latents[:, None], batch, self.heads)
