"""What may be watched of a film that is made: its calls of the network, one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor


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
