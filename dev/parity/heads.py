"""What code that parts heads stores: the memory of each group, and the scores by which heads are grouped."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dev.parity.case import Case
from dev.parity.methods import DUMMY_FORCING, FORCING_KV, repo
from gf_core.attention import Where, sdpa
from gf_core.memory.heads import pick
from gf_core.rope import rotate, turns
from gf_core.sampling.director import Director


def serves(case: Case) -> bool:
    """Whether the recorded code parts heads."""
    return repo(case) in (FORCING_KV, DUMMY_FORCING)


def give_memory(case: Case, director: Director, block: int) -> None:
    """Give keys, rotated where each frame stands in the film, and values of every group of heads behind a block."""
    memory, size = director.memory, director.memory.tokens_per_frame
    turn = turns(torch.tensor(memory.ledger.numbers()), *memory.grid, director.spec.head_dim)
    for layer, (raw_k, v) in enumerate(zip(memory.raw_k, memory.v)):
        used = memory.layout.past * size
        sides = {"k": rotate(raw_k[:, :used], turn), "v": v[:, :used]}
        for letter, side in sides.items():
            frames = side.unflatten(1, (-1, size))  # b f s h d
            for name, pieces in _stores(case, layer, block, frames.shape[1]).items():
                parts = [frames[:, slots][:, :, :, heads].flatten(1, 2) for slots, heads in pieces if heads]
                if parts and parts[0].shape[1]:
                    case.give(f"block{block}.kv.layer{layer}.{name}.{letter}", torch.cat(parts, 2))
        _give_picked(case, director, block, layer, sides)


def _give_picked(case: Case, director: Director, block: int, layer: int, sides: dict[str, Tensor]) -> None:
    """Give the runs that dynamic heads keep, which the first layer with such heads has picked for all."""
    spec, size = director.memory.spec, director.memory.tokens_per_frame
    row = (spec.heads or ())[layer]
    mine = [head for head, sees in enumerate(row) if len(sees) > 2]
    if not mine or block <= case.doc["rollout"]["switch_after_block"]:
        return
    sees = row[mine[0]]
    picker = next(number for number, other in enumerate(spec.heads or ()) if sees in other)
    turn = turns(
        torch.tensor(director.memory.ledger.numbers()), *director.memory.grid, director.spec.head_dim
    )
    heads = [head for head, other in enumerate((spec.heads or ())[picker]) if other == sees]
    keys = rotate(director.memory.raw_k[picker, :, : len(turn)], turn)[:, :, heads]
    runs, alike = pick(keys, director.memory.layout.past - sees[1], spec, size, sees[2])
    case.give(f"block{block}.chunk_similarity", alike)
    for letter, side in sides.items():
        picked = torch.cat([side[:, start:stop, mine] for start, stop in runs], 1)
        case.give(f"block{block}.kv.layer{layer}.dynamic_chunks.{letter}", picked)


def _stores(case: Case, layer: int, block: int, frames: int) -> dict[str, list[tuple[slice, list[int]]]]:
    """Name of a store -> slots of its frames and heads, piece by piece along the heads."""
    rollout, everyone = case.doc["rollout"], list(range(case.doc["model"]["num_heads"]))
    parted = block >= rollout["switch_after_block"]

    def last(count: int, behind: int) -> slice:
        return slice(max(behind, frames - count), frames)

    if repo(case) == FORCING_KV:
        sink = rollout["sink_frames"]
        windows = {kind: rollout[f"{kind}_recent_frames"] for kind in ("static", "dynamic")}
        if not parted or not layer:
            return {
                "sink": [(slice(sink), everyone)],
                "local": [(last(max(windows.values()), sink), everyone)],
            }
        groups = rollout["head_table"][layer]
        found = {f"{kind}_sink": [(slice(sink), groups[kind])] for kind in windows}
        return found | {f"{kind}_recent": [(last(n, sink), groups[kind])] for kind, n in windows.items()}
    recent = 3 * rollout["local_context_chunks"]
    if not parted:
        return {"sink": [(slice(1), everyone)], "local": [(last(recent, 1), everyone)]}
    groups = rollout["head_groups"][layer]
    return {
        "sink": [(slice(1), groups["first"]), (last(1, 0), groups["last"])],
        "local": [(last(recent, 1), groups["mid"])],
    }


class Scores:
    """A kernel that also measures where sampled queries look, in the last call of the block behind which heads part."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.block: Callable[[], int] = lambda: -1
        """The block being made."""
        self.first = 1 if case.doc["rollout"]["switch_after_block"] == 1 else 3
        """Frames that count as the first chunk."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, *, where: Where | None = None) -> Tensor:
        rows = None if where is None else self.case.inputs.get(f"sampled_rows.layer{where.layer}")
        if (
            where is not None
            and rows is not None
            and self.block() == self.case.doc["rollout"]["switch_after_block"]
        ):
            size, own = where.grid[0] * where.grid[1], q.shape[1]
            weights = (torch.einsum("bshd,bthd->bhst", q[:, rows], k) * q.shape[-1] ** -0.5).softmax(-1)
            parts = weights.split([self.first * size, k.shape[1] - own - self.first * size, own], -1)
            score = torch.stack([part.sum(-1).mean(-1) for part in parts])
            self.case.give(f"frame_attn_score.layer{where.layer}", score)
        return sdpa(q, k, v)
