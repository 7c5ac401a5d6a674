"""Where the network calls of a film are computed, by what, and with whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..attention import Kernel
from ..config import ContextGradient
from ..team import Team
from .layers import Tree
from .pieces import PLAIN, Pieces

Run = Callable[[], Tensor | None]
Record = Callable[[Run], tuple[Callable[[], Any], Tensor | None]]
"""Records what a call does; gives what does it again, and the result, which is then written anew in its place."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """What a film's director and memory have to know beside model and settings."""

    latent_height: int
    """Latent cells; a multiple of the patch size, as is the width."""
    latent_width: int
    batch: int = 1
    """Films in step."""
    device: torch.device | str | None = None
    """None is where the weights are. A host that keeps them elsewhere or packed says device and type."""
    dtype: torch.dtype | None = None
    """What to compute in; None is the type of the weights."""
    kernel: Kernel | None = None
    """Attention of a host; None is ours."""
    attention: str = ""
    """The row that computes attention where no host does; empty is the fastest."""
    pieces: Pieces = PLAIN
    """Who does the small operations; fused ones for trees of our own, without gradients."""
    record: Record | None = None
    """Lets calls of such trees be recorded and replayed; not with a team."""
    grad: ContextGradient | None = None
    """Gradients flow from chunks to the weights, and so through the past; None is not in training."""
    writer: Tree | None = None
    """The weights that write the memory, in clean passes and recaches, where they are others than those that denoise
    (SGF+)."""
    team: Team | None = None
    """The ranks that make the film together, each with a director that does what the first one does."""
