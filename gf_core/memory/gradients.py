"""Calls through which gradients flow: every frame they read is a tensor that nobody writes to again.

Backward looks at the past after the film has gone on, and activation checkpoints compute it a second time then, so
it must not lie in slots that are overwritten. Slots are kept up beside it, for the verbs.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ..attention import Where, attend
from ..rope import rotate
from .ledger import Frame, Ledger
from .views import Place, Slots

Made = tuple[Tensor, Tensor]
"""Raw keys and values [b s h d] of a frame in one layer, as the call computed them that made it."""


class Gradients:
    """The past as gradients see it."""

    def __init__(self, memory: Slots, ledger: Ledger) -> None:
        self._memory, self._ledger = weakref.ref(memory), ledger  # which has this: it is to be free at once
        layers = range(ledger.layers)
        self.graph: list[dict[int, Made]] = [{} for _ in layers]
        """Per layer anchors and recent frames by number; empty but in training."""
        self.banks: list[dict[int, Made]] = [{} for _ in layers]
        """The same of the frames that a layer's bank has taken: as they were then, whatever becomes of recent ones."""
        self.leaks: list[dict[int, Made]] = [{} for _ in layers]
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
        leaks = self.leaks[layer]
        for number, made in self._by_frame(raw_k, v):
            self.graph[layer][number] = _leaking(made, leaks[number]) if number in leaks else made

    def leak(self, layer: int, raw_k: Tensor, v: Tensor) -> None:
        """Let the current chunk's frames, once kept, pass their gradients to these (`ContextGradient`)."""
        self.leaks[layer].update(self._by_frame(raw_k, v))

    def _by_frame(self, raw_k: Tensor, v: Tensor) -> Iterable[tuple[int, Made]]:
        """Number, keys and values of every frame of the current chunk, of a call over several the first."""
        frames = range(self._ledger.frame, self._ledger.frame + self._ledger.spec.chunk)
        sides = (side.split(self.memory.tokens_per_frame, 1) for side in (raw_k, v))
        return zip(frames, zip(*sides))  # ends with the chunk

    def take(self, layer: int, number: int) -> None:
        """A layer's bank has taken this recent frame."""
        if (made := self.graph[layer].get(number)) is not None:
            with torch.enable_grad():  # a copy, as a part of a chunk would hold all of it
                self.banks[layer][number] = made[0].clone(), made[1].clone()

    def alias(self, number: int, other: int) -> None:
        """The slot of the first frame has taken on what lies in the other's."""
        for made in self.graph:
            if other in made:
                made[number] = made[other]
            else:
                made.pop(number, None)

    def past(self, layer: int, place: Place) -> list[Made]:
        """The frames of a layer that a call sees, whose rotations are all in `place.past`; in slot order.

        Frames that were mixed, averaged or computed anew are constants, and so are anchors that samples have chosen
        differently.
        """
        ledger, size, frames = self._ledger, self.memory.tokens_per_frame, list[Made]()
        apart = None if ledger.spec.averages else self.banks[layer]  # a mean is no frame
        graph = self.graph[layer]
        # In slot order: who holds the frame of each slot, and its numbers in all samples.
        slots: list[tuple[dict[int, Made] | None, set[int]]] = [
            *((graph, {frame.number for frame in slot}) for slot in zip(*ledger.anchors)),
            *((apart, {frame.number}) for frame in ledger.banks[layer]),
            *((graph, {frame.number}) for frame in ledger.recent),
        ]
        for first, turn in place.past:
            for slot in range(first // size, (first + len(turn)) // size):
                held, numbers = slots[slot]
                if held is None or len(numbers) > 1:  # a mean, or samples that differ
                    frames.append(self._read(layer, slot))
                    continue
                (number,) = numbers
                if number not in held:
                    # Mixed, restored or given: a constant, and the same one for every call from now on.
                    held[number] = self._read(layer, slot)
                frames.append(held[number])
        return frames

    def _read(self, layer: int, slot: int) -> Made:
        """A copy of what lies in a slot."""
        memory, size = self.memory, self.memory.tokens_per_frame
        here = slice(slot * size, (slot + 1) * size)
        return memory.raw_k[layer, :, here].clone(), memory.v[layer, :, here].clone()

    def forget_left(self) -> None:
        """Drop the frames that are not in memory any more."""
        ledger = self._ledger
        held = {frame.number for frames in (*ledger.anchors, ledger.recent) for frame in frames}
        for graph, made, bank, leaks in zip(self.graph, self.banks, ledger.banks, self.leaks):
            for frames, numbers in ((graph, held), (made, {frame.number for frame in bank})):
                for number in frames.keys() - numbers:
                    del frames[number]
            for number in [number for number in leaks if number < ledger.frame]:  # others are to be kept yet
                del leaks[number]

    def detach(self) -> None:
        """Make all of the past a constant: no gradient crosses into what was made before."""
        for frames in (*self.graph, *self.banks):
            frames.update({number: (k.detach(), v.detach()) for number, (k, v) in frames.items()})
        for leaks in self.leaks:
            leaks.clear()

    def clear(self) -> None:
        """Forget everything: what lies in memory is read from its slots, if it is asked for."""
        for frames in (*self.graph, *self.banks, *self.leaks):
            frames.clear()

    def make_constant(self, frames: Iterable[Frame]) -> None:
        """Anchors or recent frames whose slots are about to be written to: their values are read from there from now
        on."""
        for frame in frames:
            for made in self.graph:
                made.pop(frame.number, None)


def _leaking(made: Made, to: Made) -> Made:
    """The one's values, which hand their gradients to the other."""
    with torch.enable_grad():
        # Zero is added: the value is that of the clean pass, the gradient goes to the denoising call.
        k, v = (value.detach() + (side - side.detach()) for value, side in zip(made, to))
    return k, v


class GradView:
    """As `views.View`, for a call through which gradients flow: what it sees is put together anew.

    Past frames are what they were when the view was opened, however often a layer is computed.
    """

    def __init__(
        self,
        gradients: Gradients,
        places: Sequence[Place],
        past: Sequence[list[Made]],
        *,
        keep: bool = False,
        leaks: bool = False,
    ) -> None:
        """places: one per layer, and `past` what `Gradients.past` gives for it. keep: the call writes memory. leaks:
        it takes the gradients of what will."""
        self._gradients, self._keep, self._leaks = gradients, keep, leaks
        self.places, self._past = places, past
        self._memory = memory = gradients.memory
        self._where = [Where(layer, place.regions, memory.grid) for layer, place in enumerate(places)]
        self._past_turns = [_turn_of(place) for place in places]
        self._written: set[int] = set()

    def attend(self, layer: int, q: Tensor, raw_k: Tensor, v: Tensor) -> Tensor:
        """As `View.attend`."""
        memory, place = self._memory, self.places[layer]
        past_k, past_v = self._look_back(layer)
        keys = torch.cat([rotate(past_k, self._past_turns[layer]), rotate(raw_k, place.keys)], 1)
        values = torch.cat([past_v, v], 1)  # b t h d, as keys
        self.write(layer, raw_k, v)
        return attend(rotate(q, place.queries), keys, values, kernel=memory.kernel, where=self._where[layer])

    def write(self, layer: int, raw_k: Tensor, v: Tensor) -> None:
        """Hand on what was computed, if it is to be remembered; a layer computed again for backward changes nothing."""
        if layer in self._written or not (self._keep or (self._leaks and raw_k.requires_grad)):
            return
        self._written.add(layer)
        if self._keep:
            self._gradients.keep(layer, self.places[layer].start, raw_k, v)
        else:
            self._gradients.leak(layer, raw_k, v)

    def _look_back(self, layer: int) -> Made:
        """Raw keys and values [b s h d] of the past."""
        if not self._past[layer]:
            memory = self._memory
            return memory.raw_k[layer, :, :0], memory.v[layer, :, :0]
        k, v = (torch.cat([made[side] for made in self._past[layer]], 1) for side in (0, 1))
        return k, v


def _turn_of(place: Place) -> Tensor:
    """The rotation of all that is seen of the past."""
    turns = [turn for _, turn in place.past]
    return turns[0] if len(turns) == 1 else torch.cat([place.keys[:0], *turns])  # keys[:0]: there may be none
