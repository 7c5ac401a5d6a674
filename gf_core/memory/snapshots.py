"""A memory's state as plain tensors, and back: what `states/` of a Take and a rollout's own snapshots are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import GroundedError
from .buffers import copy_out
from .ledger import Frame

if TYPE_CHECKING:
    from .store import DualMemory


def take(memory: DualMemory) -> dict[str, Tensor]:
    """Everything a later `restore` needs, as copies in the computer's memory; only slots in use are taken."""
    ledger = memory.ledger
    used = 0 if memory.spec.refresh else memory.layout.past * memory.tokens_per_frame  # it is computed anew
    numbers = [[frame.number for frame in anchors] for anchors in ledger.anchors]
    recent = [[frame.number for frame in ledger.recent], [frame.prompt for frame in ledger.recent]]
    keys = {"raw_k": copy_out(memory.raw_k[:, :, :used]), "v": copy_out(memory.v[:, :, :used])}
    bank = {} if memory.bank is None else memory.bank.snapshot()
    # Only where something asks for it: states of other films stay as they were.
    more = {} if memory.spec.cut_position is None else {"apart": torch.tensor(ledger.apart)}
    if memory.spec.bank or memory.spec.heads:
        more["since"] = torch.tensor([ledger.begun, ledger.chunks])
    for layer in range(len(memory.k)):  # behind a shorter bank lies what the denoising steps have left
        for store in keys.values():
            store[layer, :, ledger.layer(layer).past * memory.tokens_per_frame :] = 0
    return {
        **keys,
        **more,
        **{f"bank.{name}": value for name, value in bank.items()},
        "mean_k": copy_out(memory.means[0]),
        "mean_v": copy_out(memory.means[1]),
        "anchor_latents": copy_out(memory.anchor_latents[:, : memory.layout.anchors]),
        "history": copy_out(memory.history[:, : memory.kept]),
        "numbers": torch.tensor([ledger.frame, ledger.prompt, memory.kept, *ledger.answered]),
        "anchor_frames": torch.tensor(numbers, dtype=torch.int64),
        "recent": torch.tensor(recent, dtype=torch.int64),
    }


def put_back(memory: DualMemory, state: dict[str, Tensor]) -> None:
    """Return to a `snapshot` of a memory of the same settings."""
    for name, mine in (("raw_k", memory.raw_k), ("history", memory.history)):
        theirs = state.get(name)
        if theirs is None or theirs.shape[0] != mine.shape[0] or theirs.shape[3:] != mine.shape[3:]:
            raise GroundedError(
                f"the snapshot's {name} does not fit this memory",
                fix="restore with the model, size and memory settings that the snapshot was made with",
            )
    used = state["raw_k"].shape[2]
    for store, name in ((memory.raw_k, "raw_k"), (memory.v, "v")):
        for mine, theirs in zip(store, state[name]):
            mine[:, :used].copy_(theirs)
    for mean, name in zip(memory.means, ("mean_k", "mean_v")):
        mean.copy_(state[name])
    memory.anchor_latents[:, : state["anchor_latents"].shape[1]].copy_(state["anchor_latents"])
    ledger = memory.ledger
    ledger.frame, ledger.prompt, memory.kept, *ledger.answered = state["numbers"].tolist()
    memory.history[:, : memory.kept].copy_(state["history"])
    # Under which prompt an anchor was made is not asked any more, and not stored.
    ledger.anchors = [[Frame(number, 0) for number in row] for row in state["anchor_frames"].tolist()]
    ledger.recent = [Frame(*pair) for pair in zip(*state["recent"].tolist())]
    ledger.apart = bool(state.get("apart", False))
    if "since" in state:
        ledger.begun, ledger.chunks = state["since"].tolist()
    if memory.bank is not None:
        own = {n.removeprefix("bank."): value for n, value in state.items() if n.startswith("bank.")}
        memory.bank.restore(own)
