"""Blocks that wait in the computer's memory and come to the device one ahead of their turn.

Walking over `Streamed` is all that a model does with its blocks, so nothing else knows. Two places on the device take
turns: while a block computes in one, the next is copied into the other on a stream of its own. After the last block the
first is fetched for the next call. Nothing is copied back, as weights do not change. On a processor the same is done
with plain copies, to the same bits as without.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..config import PLACES

ALIGNED = 256
"""Every parameter begins at such a byte, which fast products want."""


def waiting(blocks: int, resident: int) -> list[int]:
    """Which of `blocks` wait where `resident` of them stay: spread evenly, so that copies have time."""
    away = max(0, blocks - resident)
    return [(2 * n + 1) * blocks // (2 * away) for n in range(away)]


def device_bytes(model: nn.Module, device: torch.device) -> int:
    """Bytes that a model's weights take on a device, the places of blocks that come and go included."""
    blocks = getattr(model, "blocks", None)
    places = blocks.device_bytes if isinstance(blocks, Streamed) else 0
    away = blocks.away if isinstance(blocks, Streamed) and device.type != "cpu" else set[int]()
    return places + sum(weight.nbytes for weight in model.parameters() if id(weight) not in away)


@dataclass(frozen=True)
class Home:
    """One block's parameters in the computer's memory, in one piece."""

    bytes: Tensor
    """uint8 [n]; pinned where the device is a card."""
    parts: tuple[tuple[nn.Parameter, int], ...]
    """Parameters, and where each begins."""

    @classmethod
    def of(cls, block: nn.Module, pinned: bool) -> Home:
        """Moves a block's parameters there."""
        parts, end = [], 0
        for parameter in block.parameters():
            parts.append((parameter, end))
            end += -(-parameter.nbytes // ALIGNED) * ALIGNED
        home = cls(torch.empty(end, dtype=torch.uint8, pin_memory=pinned), tuple(parts))
        for (parameter, _), mine in zip(parts, home.views(home.bytes)):
            mine.copy_(parameter.data)
        home.point_at(home.bytes)
        return home

    def views(self, place: Tensor) -> Iterator[Tensor]:
        """The parameters' parts of a place [n] that is laid out like this one."""
        for parameter, start in self.parts:
            yield place[start : start + parameter.nbytes].view(parameter.dtype).view(parameter.shape)

    def point_at(self, place: Tensor) -> None:
        """Let the parameters lie in `place`."""
        for (parameter, _), view in zip(self.parts, list(self.views(place))):
            parameter.data = view


class Streamed(nn.ModuleList):
    """A model's blocks, some of which come to the device when a walk over them gets there."""

    def __init__(self, blocks: nn.ModuleList, away: Sequence[int], device: torch.device) -> None:
        """away: numbers of the blocks that wait, rising; the others are on the device already."""
        super().__init__(blocks)
        cuda = device.type == "cuda"
        self._order = list(away)
        self._homes = {index: Home.of(blocks[index], cuda) for index in self._order}
        most = max((home.bytes.numel() for home in self._homes.values()), default=0)
        count = min(PLACES, len(self._order))
        self._places = [torch.empty(most, dtype=torch.uint8, device=device) for _ in range(count)]
        self._oldest = deque(range(count))
        self._at: dict[int, int] = {}
        """Block -> its place on the device."""
        self._side = torch.cuda.Stream(device) if cuda else None
        self._copied: dict[int, torch.cuda.Event] = {}

    @property
    def device_bytes(self) -> int:
        """Bytes of the places that blocks take turns in."""
        return sum(place.nbytes for place in self._places)

    @property
    def away(self) -> set[int]:
        """Ids of the parameters that do not stay on the device."""
        return {id(parameter) for home in self._homes.values() for parameter, _ in home.parts}

    def __iter__(self) -> Iterator[nn.Module]:
        following = dict(zip(self._order, [*self._order[1:], *self._order[:1]]))
        for index, block in enumerate(super().__iter__()):
            if index in following:
                self._fetch(index)
                self._wait_for(index)
                self._fetch(following[index])
            yield block

    def _fetch(self, index: int) -> None:
        """Begin to copy a block into the place that was at work longest ago, unless it is on the device."""
        if index in self._at:
            self._oldest.remove(self._at[index])
            self._oldest.append(self._at[index])
            return
        place = self._oldest.popleft()
        self._oldest.append(place)
        for gone in [block for block, at in self._at.items() if at == place]:
            self._homes[gone].point_at(self._homes[gone].bytes)
            del self._at[gone]
        home = self._homes[index]
        target = self._places[place][: home.bytes.numel()]
        if self._side is None:
            target.copy_(home.bytes)
        else:
            # Something may still compute in this place.
            self._side.wait_stream(torch.cuda.current_stream(self._side.device))
            with torch.cuda.stream(self._side):
                target.copy_(home.bytes, non_blocking=True)
            self._copied[index] = torch.cuda.Event()
            self._copied[index].record(self._side)
        home.point_at(target)
        self._at[index] = place

    def _wait_for(self, index: int) -> None:
        """Let the device compute no further before a block is there."""
        if index in self._copied:
            self._copied[index].wait(torch.cuda.current_stream(self._places[0].device))
