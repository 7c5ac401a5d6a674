"""Where the network calls of a film are computed, by what, and with whom."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..attention import Kernel
from ..config import ContextGradient
from ..team import Team
from .forward import Caller
from .layers import Tree
from .pieces import PLAIN, Pieces


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
    caller: Caller | None = None
    """What makes the calls of this one film where no ranks share them, such as `sampling.graphs.Graphs`; None:
    `Call.run`."""
    grad: ContextGradient | None = None
    """Gradients flow from chunks to the weights, and so through the past; None is not in training."""
    writer: Tree | None = None
    """The weights that write the memory, in clean passes and recaches, where they are others than those that denoise
    (SGF+)."""
    team: Team | None = None
    """The ranks that make the film together, each with a director that does what the first one does."""
