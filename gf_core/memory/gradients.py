"""Calls through which gradients flow: every frame they read is a tensor that nobody writes to again.

Backward looks at the past after the film has gone on, and activation checkpoints compute it a second time then, so
it must not lie in slots that are overwritten. Slots are kept up beside it, for the verbs.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable

import torch
from torch import Tensor

from ..attention import Where, attend
from ..rope import rotate
from .ledger import Frame, Ledger
from .views import Place, Slots

Made = list[tuple[Tensor, Tensor]]
"""Raw keys and values [b s h d] per layer of a frame, as the call computed them that made it."""


class Gradients:
    """The past as gradients see it."""

    def __init__(self, memory: Slots, ledger: Ledger) -> None:
        self._memory, self._ledger = weakref.ref(memory), ledger  # which has this: it is to be free at once
        self.graph: dict[int, Made] = {}
        """By frame number; empty but in training."""
        self.leaks: dict[int, Made] = {}
        """The current chunk's denoising call, where later chunks are to give it their gradients."""

    @property
    def memory(self) -> Slots:
        """Whose past it is."""
        memory = self._memory()
        assert memory is not None  # whoever asks has it
        return memory

    def keep(self, layer: int, start: int, raw_k: Tensor, v: Tensor) -> None:
        """What a clean `GradView` computed for the chunk at token `start`: values in the slots, itself for
        gradients."""
        here = slice(start, start + raw_k.shape[1])
        with torch.no_grad():
            self.memory.raw_k[layer, :, here].copy_(raw_k)
            self.memory.v[layer, :, here].copy_(v)
        for number, made in self._by_frame(raw_k, v):
            frame = self.graph.setdefault(number, [])
            del frame[layer:]  # of a chunk that was begun and not committed
            frame.append(self._leaking(made, self.leaks[number][layer]) if number in self.leaks else made)

    def leak(self, layer: int, raw_k: Tensor, v: Tensor) -> None:
        """Let the current chunk's frames, once kept, pass their gradients to these (`ContextGradient`)."""
        for number, made in self._by_frame(raw_k, v):
            frame = self.leaks.setdefault(number, [])
            del frame[layer:]
            frame.append(made)

    def _by_frame(self, raw_k: Tensor, v: Tensor) -> Iterable[tuple[int, tuple[Tensor, Tensor]]]:
        """Number, keys and values of every frame of the current chunk."""
        sides = (side.split(self.memory.tokens_per_frame, 1) for side in (raw_k, v))
        return enumerate(zip(*sides), self._ledger.frame)

    @staticmethod
    def _leaking(made: tuple[Tensor, Tensor], to: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            k, v = (value.detach() + (side - side.detach()) for value, side in zip(made, to))
        return k, v

    def past(self) -> list[Made]:
        """Every frame in memory, in slot order.

        Frames that were mixed or computed anew are constants, and so are anchors that samples have chosen
        differently.
        """
        memory, frames = self.memory, list[Made]()
        anchors = [{frame.number for frame in slot} for slot in zip(*self._ledger.anchors)]
        for slot, numbers in enumerate([*anchors, *({frame.number} for frame in self._ledger.recent)]):
            number = min(numbers)
            if len(numbers) > 1 or number not in self.graph:
                here = slice(slot * memory.tokens_per_frame, (slot + 1) * memory.tokens_per_frame)
                made = [(k[:, here].clone(), v[:, here].clone()) for k, v in zip(memory.raw_k, memory.v)]
                if len(numbers) > 1:
                    frames.append(made)
                    continue
                self.graph[number] = made
            frames.append(self.graph[number])
        return frames

    def forget_left(self) -> None:
        """Drop the frames that are not in memory any more."""
        if self.graph:
            held = {
                frame.number for frames in (*self._ledger.anchors, self._ledger.recent) for frame in frames
            }
            self.graph = {number: made for number, made in self.graph.items() if number in held}
            self.leaks.clear()

    def detach(self) -> None:
        """Make all of the past a constant: no gradient crosses into what was made before."""
        self.leaks.clear()
        self.graph = {n: [(k.detach(), v.detach()) for k, v in made] for n, made in self.graph.items()}

    def make_constant(self, frames: Iterable[Frame]) -> None:
        """Frames whose slots are about to be written to: their values are read from there from now on."""
        for frame in frames:
            self.graph.pop(frame.number, None)


class GradView:
    """As `views.View`, for a call through which gradients flow: what it sees is put together anew.

    Past frames are what they were when the view was opened, however often a layer is computed.
    """

    def __init__(
        self,
        gradients: Gradients,
        place: Place,
        past_turn: Tensor,
        *,
        keep: bool = False,
        leaks: bool = False,
    ) -> None:
        """place: the same in every layer. keep: the call writes memory. leaks: it takes the gradients of what will."""
        self._gradients, self._keep, self._leaks = gradients, keep, leaks
        self._turn, self._past_turn, self._start = place.queries, past_turn, place.start
        self._memory = memory = gradients.memory
        self._where = [Where(layer, place.regions, memory.grid) for layer in range(len(memory.raw_k))]
        self._past = gradients.past()
        self._written: set[int] = set()

    def attend(self, layer: int, q: Tensor, raw_k: Tensor, v: Tensor) -> Tensor:
        """As `View.attend`."""
        memory = self._memory
        past_k, past_v = self._look_back(layer)
        keys = torch.cat([rotate(past_k, self._past_turn), rotate(raw_k, self._turn)], 1)
        values = torch.cat([past_v, v], 1)
        self.write(layer, raw_k, v)
        return attend(rotate(q, self._turn), keys, values, kernel=memory.kernel, where=self._where[layer])

    def write(self, layer: int, raw_k: Tensor, v: Tensor) -> None:
        """Hand on what was computed, if it is to be remembered; a layer computed again for backward changes nothing."""
        if layer in self._written or not (self._keep or (self._leaks and raw_k.requires_grad)):
            return
        self._written.add(layer)
        if self._keep:
            self._gradients.keep(layer, self._start, raw_k, v)
        else:
            self._gradients.leak(layer, raw_k, v)

    def _look_back(self, layer: int) -> tuple[Tensor, Tensor]:
        """Raw keys and values [b s h d] of the past."""
        if not self._past:
            memory = self._memory
            return memory.raw_k[layer, :, :0], memory.v[layer, :, :0]
        k, v = (torch.cat([made[layer][side] for made in self._past], 1) for side in (0, 1))
        return k, v
