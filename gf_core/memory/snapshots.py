"""A memory's state as plain tensors, and back: what `states/` of a Take and a rollout's own snapshots are made of."""

from __future__ import annotations

import torch
from torch import Tensor

from ..config import MemorySpec
from ..errors import GroundedError
from .bank import Bank
from .buffers import copy_out
from .gradients import Gradients
from .ledger import Frame, Ledger
from .regions import Layout


class Snapshots:
    """What of a memory is kept; `store.DualMemory` has these parts, and says what they are."""

    spec: MemorySpec
    layout: Layout
    ledger: Ledger
    tokens_per_frame: int
    raw_k: Tensor
    v: Tensor
    means: list[Tensor]
    anchor_latents: Tensor
    history: Tensor
    kept: int
    bank: Bank | None
    gradients: Gradients

    def snapshot(self) -> dict[str, Tensor]:
        """Everything a later `restore` needs, as copies in the computer's memory; only slots in use are taken."""
        ledger = self.ledger
        used = 0 if self.spec.refresh else self.layout.past * self.tokens_per_frame  # it is computed anew
        numbers = [[frame.number for frame in anchors] for anchors in ledger.anchors]
        recent = [[frame.number for frame in ledger.recent], [frame.prompt for frame in ledger.recent]]
        keys = {"raw_k": copy_out(self.raw_k[:, :, :used]), "v": copy_out(self.v[:, :, :used])}
        bank = {} if self.bank is None else self.bank.snapshot()
        # Only where something asks for it: states of other films stay as they were.
        more = {} if self.spec.cut_position is None else {"apart": torch.tensor(ledger.apart)}
        if self.spec.bank or self.spec.heads or self.spec.walk:
            more["since"] = torch.tensor([ledger.begun, ledger.chunks])
        if ledger.given:
            more["pictures"] = torch.tensor(ledger.given)
        for layer in range(len(self.raw_k)):  # behind a shorter bank lies what the denoising steps have left
            for store in keys.values():
                store[layer, :, ledger.layer(layer).past * self.tokens_per_frame :] = 0
        return {
            **keys,
            **more,
            **{f"bank.{name}": value for name, value in bank.items()},
            "mean_k": copy_out(self.means[0]),
            "mean_v": copy_out(self.means[1]),
            "anchor_latents": copy_out(self.anchor_latents[:, : self.layout.anchors]),
            "history": copy_out(self.history[:, : self.kept]),
            "numbers": torch.tensor([ledger.frame, ledger.prompt, self.kept, *ledger.answered]),
            "anchor_frames": torch.tensor(numbers, dtype=torch.int64),
            "recent": torch.tensor(recent, dtype=torch.int64),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Return to a `snapshot` of a memory of the same settings; buffers stay where they are."""
        for name, mine in (("raw_k", self.raw_k), ("history", self.history)):
            theirs = state.get(name)
            if theirs is None or theirs.shape[0] != mine.shape[0] or theirs.shape[3:] != mine.shape[3:]:
                raise GroundedError(
                    f"the snapshot's {name} does not fit this memory",
                    fix="restore with the model, size and memory settings that the snapshot was made with",
                )
        self.gradients.graph.clear()
        used = state["raw_k"].shape[2]
        for store, name in ((self.raw_k, "raw_k"), (self.v, "v")):
            for mine, theirs in zip(store, state[name]):
                mine[:, :used].copy_(theirs)
        for mean, name in zip(self.means, ("mean_k", "mean_v")):
            mean.copy_(state[name])
        self.anchor_latents[:, : state["anchor_latents"].shape[1]].copy_(state["anchor_latents"])
        ledger = self.ledger
        ledger.frame, ledger.prompt, self.kept, *ledger.answered = state["numbers"].tolist()
        self.history[:, : self.kept].copy_(state["history"])
        # Under which prompt an anchor was made is not asked any more, and not stored.
        ledger.anchors = [[Frame(number, 0) for number in row] for row in state["anchor_frames"].tolist()]
        ledger.recent = [Frame(*pair) for pair in zip(*state["recent"].tolist())]
        ledger.apart = bool(state.get("apart", False))
        ledger.given = int(state.get("pictures", 0))
        if "since" in state:
            ledger.begun, ledger.chunks = state["since"].tolist()
        if self.bank is not None:
            own = {n.removeprefix("bank."): value for n, value in state.items() if n.startswith("bank.")}
            self.bank.restore(own)

    def recall(self, state: dict[str, Tensor]) -> None:
        """Return to an earlier `snapshot` of the film; its count of frames and prompts goes on."""
        now = self.ledger.frame, self.ledger.prompt
        self.gradients.graph.clear()
        self.restore(state)
        self.ledger.resume(*now)
