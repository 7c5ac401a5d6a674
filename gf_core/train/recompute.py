"""Activation checkpointing: a block keeps its input only, and computes itself again when its gradient is wanted."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute(blocks: Iterable[nn.Module]) -> None:
    """Let every block compute its activations twice rather than keep them; call it before `ranks.fsdp`.

    What a block's attention reads of a memory must be what it was: a `GradView` holds it, and writes once.
    """
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
