"""Heads that see different frames of the same memory, as a table of a checkpoint says (Forcing-KV, Dummy Forcing), and
heads of which the memory is elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..config import MemorySpec, ModelSpec
from .ledger import Ledger
from .regions import Layout, of_head
from .views import Heads, joined

Runs = list[tuple[int, int]]
"""First token and the one behind the last of runs, in order."""
Gather = Callable[[Tensor, int], Tensor]
"""(tensor of this memory's heads, axis of the heads) -> the same of all heads."""


def own(mine: Tensor, dim: int) -> Tensor:
    """`Gather` where all heads are here."""
    return mine


@dataclass(frozen=True)
class Share:
    """The heads that one memory of several holds."""

    heads: range
    gather: Gather
    """Brings the others' part; called by all memories at the same time."""

    def of(self, model: ModelSpec, spec: MemorySpec) -> tuple[ModelSpec, MemorySpec]:
        """The settings of a memory of these heads alone."""
        here = slice(self.heads.start, self.heads.stop)
        heads, width = len(self.heads), model.head_dim
        table = spec.heads and tuple(row[here] for row in spec.heads)
        return replace(model, num_heads=heads, dim=heads * width), replace(spec, heads=table)


def groups_of(spec: MemorySpec, ledger: Ledger, k: Tensor, frames: int, size: int) -> list[tuple[Heads, ...]]:
    """Per layer the heads that see the same, for a call of `frames`; () where all see all.

    k: rotated keys [l b s h d] of the past. size: tokens of a frame.
    """
    table, before = spec.heads or (), spec.heads_before
    # The table holds from chunk `heads_from` on, and picking from the one after it.
    if ledger.chunks < spec.heads_from:
        table = [[] if before is None else [before] * len(row) for row in table]
    runs = _picked(spec, k, ledger.layout.past, size) if ledger.chunks > spec.heads_from else {}
    return [_groups(row, ledger.layout, frames, size, runs) for row in table]


def _picked(spec: MemorySpec, k: Tensor, past: int, size: int) -> dict[tuple[int, ...], Runs]:
    """The runs that heads pick, by their entry in the table; the first layer whose heads pick does so for all."""
    runs: dict[tuple[int, ...], Runs] = {}
    for row, keys in zip(spec.heads or (), k):
        # A film that has just begun, and one behind a cut, has nothing to pick from.
        new = {sees for sees in row if len(sees) > 2 and past >= sees[1] + spec.chunk} - runs.keys()
        for sees in new:
            mine = [number for number, other in enumerate(row) if other == sees]
            runs[sees] = pick(keys[:, :, mine], past - sees[1], spec, size, sees[2])[0]
    return runs


def pick(k: Tensor, stop: int, spec: MemorySpec, size: int, count: int) -> tuple[Runs, Tensor]:
    """Runs of the chunk's worth of frames before frame `stop` that are least like the next frame, and all likenesses.

    k: rotated keys [b s h d] of the heads that pick. A run is as like the next frame as its tokens are on the mean.
    """
    first, length = stop - spec.chunk, size // spec.heads_runs
    frames = k[:, first * size : (stop + 1) * size].float().flatten(2).unflatten(1, (-1, size))  # b f s c
    alike = torch.cosine_similarity(frames[:, :-1], frames[:, 1:], dim=-1)  # b f-1 s
    alike = alike.mean(0).unflatten(-1, (spec.heads_runs, length)).mean(-1).flatten()  # ((f-1) runs)
    least = sorted(alike.argsort(stable=True)[:count].tolist())  # in slot order, as `joined` wants them
    return [(first * size + run * length, first * size + (run + 1) * length) for run in least], alike


def _groups(
    row: Sequence[tuple[int, ...]], layout: Layout, frames: int, size: int, runs: dict[tuple[int, ...], Runs]
) -> tuple[Heads, ...]:
    own, found = (layout.past * size, (layout.past + frames) * size), list[Heads]()
    for sees in dict.fromkeys(row):
        numbers = tuple(number for number, other in enumerate(row) if other == sees)
        first, last = of_head(layout, *sees[:2])
        tokens = [(part.start * size, part.stop * size) for part in (first, last)]
        picked = runs.get(sees, [])
        regions = () if picked else layout.only([*first, *last], frames).regions()
        # In slot order: what was picked lies before the newest frames, where `pick` stops.
        found.append(Heads(numbers, joined([tokens[0], *picked, tokens[1], own]), regions))
    return tuple(found)
