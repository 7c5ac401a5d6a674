"""A picture that is given to the memory, and not made: it becomes an anchor that stays until a scene."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from .store import DualMemory
    from .views import View


def give(memory: DualMemory, latents: Tensor) -> View:
    """Lay clean latents [b 1 c h w] among the anchors, behind the pictures before.

    Gives the view of the clean pass that is to write keys and values; it sees the pictures before it.
    """
    moves = memory.ledger.give()
    # Told, not made yet: `layout` is the old one until the ledger is asked again.
    move, size = next(moves), memory.tokens_per_frame
    slot, held = move.target, memory.anchor_latents
    if move.kind == "insert":  # what lies from there on moves up by a slot; room for a chunk is behind it
        for layers, layout in memory.alike():
            for store in (memory.raw_k[layers], memory.v[layers]):
                up = store[:, :, slot * size : layout.past * size].clone()  # the ranges overlap
                store[:, :, (slot + 1) * size : (layout.past + 1) * size] = up
        have = memory.layout.anchors
        held[:, slot + 1 : have + 1] = held[:, slot:have].clone()
    held[:, slot : slot + 1].copy_(latents)
    next(moves, None)  # the ledger makes the move now
    return memory.reopen(slots=range(slot, slot + 1))
