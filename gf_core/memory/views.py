"""What one network call sees of the memory: `View` writes in place, `GradView` lets gradients through."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ..attention import Kernel, Where, attend
from ..rope import rotate

Made = list[tuple[Tensor, Tensor]]
"""Raw keys and values [b s h d] per layer of a frame, as the call computed them that made it."""


class Slots(Protocol):
    """What a view asks of the memory (`store.DualMemory`); buffers are [l b s h d]."""

    raw_k: Tensor
    k: Tensor
    v: Tensor
    kernel: Kernel
    tokens_per_frame: int

    def where(self, stop: int) -> list[Where]: ...

    def keep(self, layer: int, start: int, raw_k: Tensor, v: Tensor) -> None: ...

    def frames_with_graph(self) -> list[Made | None]: ...


class View:
    """Self-attention of one network call: reads the past, writes its own frames, attends over one slice."""

    def __init__(
        self, memory: Slots, turn: Tensor, start: int, stop: int, *, keep: bool, skip: int = 0
    ) -> None:
        """start, stop: tokens written, the last seen; skip: leading query tokens whose k and v are not written."""
        self._memory, self._skip, self._keep = memory, skip, keep
        self._q_turn, self._k_turn = turn, turn[skip:]
        self.start, self.stop = start, stop
        self._where = memory.where(stop)

    def attend(self, layer: int, q: Tensor, raw_k: Tensor, v: Tensor) -> Tensor:
        """Attention of this call's tokens over memory and themselves; all [b s h d]."""
        memory = self._memory
        self.write(layer, raw_k, v)
        k, values = memory.k[layer, :, : self.stop], memory.v[layer, :, : self.stop]
        return attend(rotate(q, self._q_turn), k, values, kernel=memory.kernel, where=self._where[layer])

    def write(self, layer: int, raw_k: Tensor, v: Tensor) -> None:
        """Place this call's keys and values [b s h d] in their slots; raw keys only when they are to be kept."""
        memory, here = self._memory, slice(self.start, self.stop)
        raw_k, v = raw_k[:, self._skip :], v[:, self._skip :]
        if self._keep:
            memory.raw_k[layer, :, here].copy_(raw_k)
        memory.v[layer, :, here].copy_(v)
        rotate(raw_k, self._k_turn, out=memory.k[layer, :, here])


class GradView:
    """The same for a call through which gradients flow: what it sees is put together anew, nothing is overwritten.

    Past frames have the values that lie in memory. Their gradient goes to the keys and values that the call which made
    them computed, where the memory holds these (`frames_with_graph`); elsewhere the past is a constant.
    """

    def __init__(
        self, memory: Slots, turn: Tensor, past_turn: Tensor, start: int, stop: int, *, keep: bool
    ) -> None:
        self._memory, self._turn, self._past_turn, self._keep = memory, turn, past_turn, keep
        self.start, self.stop = start, stop
        self._where = memory.where(stop)
        self._past = memory.frames_with_graph()

    def attend(self, layer: int, q: Tensor, raw_k: Tensor, v: Tensor) -> Tensor:
        """As `View.attend`."""
        memory = self._memory
        past_k, past_v = self._look_back(layer)
        keys = torch.cat([rotate(past_k, self._past_turn), rotate(raw_k, self._turn)], 1)
        values = torch.cat([past_v, v], 1)
        self.write(layer, raw_k, v)
        return attend(rotate(q, self._turn), keys, values, kernel=memory.kernel, where=self._where[layer])

    def write(self, layer: int, raw_k: Tensor, v: Tensor) -> None:
        """Keep what the clean pass computed: its values in the slots, itself for gradients."""
        if self._keep:
            self._memory.keep(layer, self.start, raw_k, v)

    def _look_back(self, layer: int) -> tuple[Tensor, Tensor]:
        """Raw keys and values [b s h d] of the past; values as stored, gradients to where they were computed."""
        stores = (self._memory.raw_k, self._memory.v)
        if not self._past:
            k, v = (store[layer, :, : self.start].clone() for store in stores)
            return k, v
        size, sides = self._memory.tokens_per_frame, []
        for side, store in enumerate(stores):
            frames = []
            for slot, made in enumerate(self._past):
                value = store[layer, :, slot * size : (slot + 1) * size].clone()
                if made is not None:
                    fresh = made[layer][side]
                    value = value + (fresh - fresh.detach())
                frames.append(value)
            sides.append(torch.cat(frames, 1))
        return sides[0], sides[1]
