"""Moving slots of a buffer, taking them out, and the rotations that are needed again and again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from ..rope import turns

TURNS_KEPT = 8


class Turns:
    """Rotation of frames at given time positions; the last few are kept, as steady state repeats them."""

    def __init__(self, rows: int, columns: int, head_dim: int, device: torch.device, kept: int) -> None:
        self._shape, self._device, self._kept = (rows, columns, head_dim), device, kept
        self._found: OrderedDict[tuple[int, ...], Tensor] = OrderedDict()

    def __call__(self, at: Sequence[int]) -> Tensor:
        """As `rope.turns`."""
        key = tuple(at)
        found = self._found.get(key)
        if found is None:
            found = turns(torch.tensor(key, device=self._device), *self._shape)
            self._found[key] = found
            if len(self._found) > self._kept:
                self._found.popitem(last=False)
        return found


def shift(store: Tensor, dim: int, start: int, stop: int, by: int) -> None:
    """Move entries [start+by, stop) of `dim` down by `by`, piecewise because the two ranges overlap."""
    for at in range(start, stop - by, by):
        count = min(by, stop - by - at)
        store.narrow(dim, at, count).copy_(store.narrow(dim, at + by, count))


def copy_out(store: Tensor) -> Tensor:
    """A contiguous copy on the CPU, part by part: a slice copied whole would first be copied on the card."""
    out = torch.empty(store.shape, dtype=store.dtype)
    for mine, theirs in zip(out, store):
        mine.copy_(theirs)
    return out
