"""Asymmetric proximity recache (paper 4.3, Eq. 11, 12): memory follows a new prompt, near frames more than far ones.

One call at timestep 0 recomputes the recent frames under the new prompt, with the anchors as context; old and new raw
keys and values are then mixed per frame. Mixing happens layer by layer right after a layer has attended: no later
layer reads it, so this equals mixing after the whole call, and one layer's copy of the old values is enough.
LongLive's recache is the same call with every share at 1, before the oldest chunk has left.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

from ..model.forward import SelfAttention
from ..model.pieces import mix
from .packed import fill, is_packed, pack, values_of
from .store import DualMemory

Recompute = Callable[[Tensor, SelfAttention], None]
"""Runs one clean call over latents [b f c h w] under the new prompt with the given self-attention."""


def proximity(recent: int, depth: int, alpha_max: float) -> list[float]:
    """Share of recomputed K/V per recent frame, oldest first: min(alpha_max, 1 - d/depth), the newest frame at d = 1.

    depth: size of full recent memory; fewer frames take the newest shares of the full list.
    """
    return [min(alpha_max, max(0.0, 1 - d / depth)) for d in range(recent, 0, -1)]  # Eq. 12


class Blend:
    """Self-attention that lets fresh keys and values act in its own call and leaves a mix of old and fresh behind.

    Raw keys are mixed where they lie. Of the values, which attention reads fresh from the same slots, one layer's are
    set aside; nothing is where they are packed. Frames whose share is 0 are left as they were.
    """

    def __init__(self, memory: DualMemory, shares: list[float]) -> None:
        self._memory, self._view = memory, memory.reopen(keep=False)
        size, place = memory.tokens_per_frame, self._view.places[0]
        # The first token that has a share; packed slots are gone through from the start.
        self._first = 0 if memory.packed else size * next((n for n, share in enumerate(shares) if share), 0)
        share = torch.tensor(shares, device=memory.v.device)
        self._share = share.repeat_interleave(size)[self._first :, None, None]  # s 1 1
        self._rest = 1 - self._share
        here = memory.v[0, :, place.start : place.stop]
        self._old_v = None if memory.packed else torch.empty_like(here)  # b s h d

    @property
    def kind(self) -> Hashable:
        """As `View.kind`."""
        return "mix", self._view.kind

    def attend(self, layer: int, q: Any, raw_k: Any, v: Tensor) -> Tensor:
        """Attention over the anchors and the fresh frames, then the mix."""
        _, values = self._slots(layer)
        if self._old_v is None:
            out = self._view.attend(layer, q, raw_k, v)
        else:
            # Attention lays fresh values over the old ones in these slots.
            self._old_v.copy_(values)
            out = self._view.attend(layer, q, raw_k, v)
            # Frames of share 0 get their old values back: the mix begins behind them.
            values[:, : self._first].copy_(self._old_v[:, : self._first])
        self._mix(layer, raw_k, v, self._old_v)
        return out

    def write(self, layer: int, raw_k: Any, v: Tensor) -> None:
        """The mix alone, for the last layer."""
        self._mix(layer, raw_k, v, None)

    def _slots(self, layer: int) -> tuple[Tensor, Tensor]:
        """Raw keys and values [b s h d] of the frames."""
        place = self._view.places[layer]
        here = slice(place.start, place.stop)
        return self._memory.raw_k[layer, :, here], self._memory.v[layer, :, here]

    def _mix(self, layer: int, raw_k: Any, v: Tensor, old_v: Tensor | None) -> None:
        """Mix into the slots; old_v: values that were there, None where they still are."""
        k, values = self._slots(layer)
        run, raw_k = slice(self._first, None), self._memory.pieces.values_of(raw_k)
        # Eq. 11, for keys and for values.
        for slots, old, fresh in ((k, k, raw_k), (values, old_v, v)):
            old = slots if old is None else old
            if is_packed(slots):
                # Fresh ones are rounded first, as what they are mixed with was.
                fill(slots, self._rest * values_of(old) + self._share * values_of(pack(fresh)))
            else:
                mix(slots[:, run], old[:, run], fresh[:, run], self._rest, self._share)


def recache(memory: DualMemory, recompute: Recompute, alpha_max: float | None) -> None:
    """Bring recent memory, already evicted down to its size, under the new prompt; anchors keep the old one.

    alpha_max: cap of the proximity shares; None recomputes every recent frame outright.
    """
    recent = memory.layout.recent
    shares = [1.0] * recent if alpha_max is None else proximity(recent, memory.spec.recent, alpha_max)
    if any(shares):
        recompute(memory.recent_latents(recent), Blend(memory, shares))


def refresh(memory: DualMemory, recompute: Recompute) -> None:
    """Krea: all of the memory anew from its clean latents, chunk by chunk, each seeing those before it."""
    layout, chunk = memory.layout, memory.spec.chunk
    latents = torch.cat([memory.anchor_latents[:, : layout.anchors], memory.recent_latents(layout.recent)], 1)
    for first in range(0, layout.past, chunk):
        slots = range(first, min(first + chunk, layout.past))
        recompute(latents[:, slots.start : slots.stop], memory.reopen(slots=slots))


def recache_all(memory: DualMemory, recompute: Recompute) -> None:
    """LongLive's order: recompute every frame before the oldest leave; needed by `recache_before_evict`.

    While the film is shorter than the window the first frames are recomputed too. Later the anchors survive, and as
    many older frames as there are anchors take part as queries only, because LongLive recomputes a full window.
    """
    if memory.spec.recache_reach is not None:
        _recache_newest(memory, recompute, memory.spec.recache_reach)
        return
    layout = memory.layout
    own = memory.ledger.numbers()[memory.ledger.pictures :]
    # The newest frames without a gap, anchors among them: these are computed anew too.
    whole = bool(own) and own[0] == memory.ledger.frame - len(own)
    if whole or not memory.spec.recache_keeps_anchors:
        memory.ledger.forget_anchors()
        layout = memory.layout
    # As many older frames as there are anchors, as far as their latents are kept.
    context = min(layout.anchors, memory.kept - layout.recent)
    if layout.recent:
        recompute(memory.recent_latents(layout.recent + context), memory.reopen(context))


def _recache_newest(memory: DualMemory, recompute: Recompute, reach: int) -> None:
    """LongLive's training: all is zeroed, and of the newest frames those that lie in memory are recomputed together."""
    layout, ledger = memory.layout, memory.ledger
    newest = min(layout.recent, reach)
    latents, slots = memory.recent_latents(newest), range(layout.past - newest, layout.past)
    memory.gradients.make_constant(frame for anchors in ledger.anchors for frame in anchors)
    oldest = min((frame.number for anchors in ledger.anchors for frame in anchors), default=ledger.frame)
    # Anchors are among the newest `reach` frames themselves: all of memory is computed in one call.
    if oldest >= ledger.frame - reach and layout.past <= reach:
        latents = torch.cat([memory.anchor_latents[:, : layout.anchors], latents], 1)
        slots = range(layout.past)
    else:
        for store in (memory.raw_k, memory.v):
            store[:, :, : slots.start * memory.tokens_per_frame].zero_()
    if slots:
        recompute(latents, memory.reopen(slots=slots))
