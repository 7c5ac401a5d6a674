"""The few-step loop of a distilled causal model (Self Forcing): predict x0, add noise of the next level, repeat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from .schedule import Level, add_noise, flow_to_x0

Predict = Callable[[Tensor, int], Tensor]
"""Flow [b f c h w] of noisy latents [b f c h w] at level number i."""


@dataclass(frozen=True)
class Trace:
    """What one network call took and gave, for previews and comparisons; tensors are only valid during the callback."""

    kind: Literal["denoise", "clean", "recache"]
    """Which call this was."""
    step: int
    """Number of the denoising step; 0 for the other kinds."""
    latents: Tensor
    """Input of the call [b f c h w]."""
    flow: Tensor
    """Output of the call [b f c h w]."""
    denoised: Tensor | None
    """Clean latents predicted by a denoising step [b f c h w]."""


def denoise(
    predict: Predict,
    noise: Tensor,
    renoise: Callable[[int], Tensor],
    levels: Sequence[Level],
    *,
    on_step: Callable[[int, int], None] | None = None,
    watch: Callable[[Trace], None] | None = None,
) -> Tensor:
    """Clean latents [b f c h w] from noise; renoise(i) gives the noise added on the way into level i >= 1.

    on_step(i, n) is called after step i of n; whatever it raises ends the loop. No device synchronisation happens here.
    """
    x = denoised = noise
    for i, level in enumerate(levels):
        if i:
            x = add_noise(denoised, renoise(i).to(noise.device, noise.dtype, non_blocking=True), level.sigma)
        flow = predict(x, i)
        denoised = flow_to_x0(x, flow, level.sigma)
        if watch is not None:
            watch(Trace("denoise", i, x, flow, denoised))
        if on_step is not None:
            on_step(i, len(levels))
    return denoised
