"""Light Forcing's hierarchical sparse attention: a block of queries picks the frames, then the blocks, that it sees.

Per head and block of queries, mean keys say which frames of the past matter and, within them, which blocks of keys;
the first and the newest frame of the past and the call's own frames always take part. What is kept goes through a
dense kernel. With nothing left out that is the dense kernel itself.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import Kernel, Where

BLOCK = 64
"""Tokens of a block at most; it divides a frame."""
FRAMES = 6
"""Frames of the past that a block of queries may choose, beside those that always take part."""


class Sparse:
    """A kernel that leaves out the share `left_out` of the key blocks, where there is a past to leave out of."""

    def __init__(self, dense: Kernel, left_out: float, frames: int = FRAMES) -> None:
        self._dense, self._left_out, self._frames = dense, left_out, frames

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, *, where: Where | None = None) -> Tensor:
        past = 0 if where is None else sum(count for _, count in where.regions[:-1])
        if where is None or not past:
            return self._dense(q, k, v, where=where)
        size = where.grid[0] * where.grid[1]  # tokens of a frame
        block = next(width for width in range(min(BLOCK, size), 0, -1) if size % width == 0)
        chosen = self._choose(q, k, past, size, block)
        if chosen is None:
            return self._dense(q, k, v, where=where)
        # Blocks of queries [b q block h d], and of keys and values [b k block h d].
        out, (queries, keys, values) = torch.empty_like(q), (x.unflatten(1, (-1, block)) for x in (q, k, v))
        for head in range(q.shape[2]):  # one head at a time: every block of queries has keys of its own
            mine = chosen[:, :, head, :, None, None]  # b q n 1 1
            ks, vs = (
                side[:, None, :, :, head]  # b 1 k block d
                .expand(-1, queries.shape[1], -1, -1, -1)  # b q k block d
                .gather(2, mine.expand(-1, -1, -1, block, q.shape[-1]))  # b q n block d
                .flatten(2, 3)  # b q (n block) d
                .flatten(0, 1)  # (b q) (n block) d
                .unsqueeze(2)  # (b q) (n block) 1 d
                for side in (keys, values)
            )
            part = self._dense(queries[:, :, :, head].flatten(0, 1).unsqueeze(2), ks, vs)  # (b q) block 1 d
            out[:, :, head] = part.squeeze(2).unflatten(0, (len(q), -1)).flatten(1, 2)
        return out

    def _choose(self, q: Tensor, k: Tensor, past: int, size: int, block: int) -> Tensor | None:
        """Numbers of the key blocks [b q h n] that each block of queries sees; None is all."""
        own, blocks = q.shape[1] // block, k.shape[1] // block
        # At least the call's own blocks and one of the past.
        keep = max(own + 1, math.ceil((1 - self._left_out) * blocks))
        if keep >= blocks:
            return None
        queries, keys = (x.unflatten(1, (-1, block)).float().mean(2) for x in (q, k))  # b n h d
        frames = keys.unflatten(1, (-1, size // block)).mean(2)  # b f h d
        liking = torch.einsum("bqhd,bfhd->bqhf", queries, frames)
        # The first frame, the newest of the past and the call's own come before any other.
        liking[..., [0, *range(past - 1, liking.shape[-1])]] = torch.inf
        always = 1 + (past > 1) + liking.shape[-1] - past  # how many those are
        top = liking.topk(min(liking.shape[-1], always + self._frames), -1).indices
        outside = torch.ones_like(liking, dtype=torch.bool).scatter(-1, top, False)  # b q h f
        scores = torch.einsum("bqhd,bkhd->bqhk", queries, keys)
        scores = scores.masked_fill(outside.repeat_interleave(size // block, -1), -torch.inf)  # b q h k
        # No more than the chosen frames have: blocks at minus infinity are never taken.
        keep = min(keep, top.shape[-1] * (size // block))
        return scores.topk(keep, -1).indices
