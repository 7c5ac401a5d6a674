"""What calls through which gradients flow read of a memory: every frame as tensors that nobody writes to again.

Backward looks at the past after the film has gone on, and activation checkpoints compute it a second time then, so
it must not lie in slots that are overwritten. Slots are kept up beside it, for the verbs.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from .ledger import Frame, Ledger
from .views import Made


class Gradients:
    """The past as gradients see it; `store.DualMemory` has these parts, and says what they are."""

    ledger: Ledger
    tokens_per_frame: int
    raw_k: Tensor
    v: Tensor
    graph: dict[int, Made]
    leaks: dict[int, Made]

    def keep(self, layer: int, start: int, raw_k: Tensor, v: Tensor) -> None:
        """What a clean `GradView` computed for the chunk at token `start`: values in the slots, itself for
        gradients."""
        here = slice(start, start + raw_k.shape[1])
        with torch.no_grad():
            self.raw_k[layer, :, here].copy_(raw_k)
            self.v[layer, :, here].copy_(v)
        for number, made in enumerate(self._by_frame(raw_k, v), self.ledger.frame):
            frame = self.graph.setdefault(number, [])
            del frame[layer:]  # of a chunk that was begun and not committed
            frame.append(self._leaking(made, self.leaks[number][layer]) if number in self.leaks else made)

    def leak(self, layer: int, raw_k: Tensor, v: Tensor) -> None:
        """Let the current chunk's frames, once kept, pass their gradients to these (`ContextGradient`)."""
        for number, made in enumerate(self._by_frame(raw_k, v), self.ledger.frame):
            frame = self.leaks.setdefault(number, [])
            del frame[layer:]
            frame.append(made)

    def _by_frame(self, raw_k: Tensor, v: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
        return zip(*(side.split(self.tokens_per_frame, 1) for side in (raw_k, v)))

    @staticmethod
    def _leaking(made: tuple[Tensor, Tensor], to: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            k, v = (value.detach() + (side - side.detach()) for value, side in zip(made, to))
        return k, v

    def past(self) -> list[Made]:
        """Raw keys and values [b s h d] per layer of every frame in memory, in slot order.

        Frames that were mixed or computed anew are constants, and so are anchors that samples have chosen
        differently.
        """
        anchors = [{frame.number for frame in slot} for slot in zip(*self.ledger.anchors)]
        frames, size = list[Made](), self.tokens_per_frame
        for slot, numbers in enumerate([*anchors, *({frame.number} for frame in self.ledger.recent)]):
            number = min(numbers)
            if len(numbers) > 1 or number not in self.graph:
                here = slice(slot * size, (slot + 1) * size)
                made = [(k[:, here].clone(), v[:, here].clone()) for k, v in zip(self.raw_k, self.v)]
                if len(numbers) > 1:
                    frames.append(made)
                    continue
                self.graph[number] = made
            frames.append(self.graph[number])
        return frames

    def forget_left(self) -> None:
        """Drop the frames that are not in memory any more."""
        if self.graph:
            ledger = self.ledger
            held = {frame.number for frames in (*ledger.anchors, ledger.recent) for frame in frames}
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
