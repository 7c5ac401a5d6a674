"""A memory's state as plain tensors, and back: what `states/` of a Take and a rollout's own snapshots are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import GroundedError
from .ledger import Frame

if TYPE_CHECKING:
    from .store import DualMemory


def snapshot(memory: DualMemory) -> dict[str, Tensor]:
    """Everything a later `restore` needs, as copies in the computer's memory; only slots in use are taken."""
    ledger = memory.ledger
    used = 0 if memory.spec.refresh else memory.layout.past * memory.tokens_per_frame  # it is computed anew
    numbers = [[frame.number for frame in anchors] for anchors in ledger.anchors]
    recent = [[frame.number for frame in ledger.recent], [frame.prompt for frame in ledger.recent]]
    keys = {"raw_k": copy_out(memory.raw_k[:, :, :used]), "v": copy_out(memory.v[:, :, :used])}
    bank = {} if memory.bank is None else memory.bank.snapshot()
    # Only where something asks for it: states of other films stay as they were.
    more = {} if memory.spec.cut_position is None else {"apart": torch.tensor(ledger.apart)}
    if memory.spec.bank or memory.spec.heads or memory.spec.walk:
        more["since"] = torch.tensor([ledger.begun, ledger.chunks])
    if ledger.given:
        more["pictures"] = torch.tensor(ledger.given)
    for layer in range(len(memory.raw_k)):  # behind a shorter bank lies what the denoising steps have left
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


def restore(memory: DualMemory, state: dict[str, Tensor]) -> None:
    """Return to a `snapshot` of a memory of the same settings; buffers stay where they are."""
    for name, mine in (("raw_k", memory.raw_k), ("history", memory.history)):
        theirs = state.get(name)
        if theirs is None or theirs.shape[0] != mine.shape[0] or theirs.shape[3:] != mine.shape[3:]:
            raise GroundedError(
                f"the snapshot's {name} does not fit this memory",
                fix="restore with the model, size and memory settings that the snapshot was made with",
            )
    memory.gradients.clear()
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
    ledger.given = int(state.get("pictures", 0))
    if "since" in state:
        ledger.begun, ledger.chunks = state["since"].tolist()
    if memory.bank is not None:
        own = {n.removeprefix("bank."): value for n, value in state.items() if n.startswith("bank.")}
        memory.bank.restore(own)


def recall(memory: DualMemory, state: dict[str, Tensor]) -> None:
    """Return to an earlier `snapshot` of the film; its count of frames and prompts goes on."""
    now = memory.ledger.frame, memory.ledger.prompt
    restore(memory, state)
    memory.ledger.resume(*now)


def copy_out(store: Tensor) -> Tensor:
    """A contiguous copy on the CPU, part by part: a slice copied whole would first be copied on the card."""
    out = torch.empty(store.shape, dtype=store.dtype)
    for mine, theirs in zip(out, store):
        mine.copy_(theirs)
    return out
