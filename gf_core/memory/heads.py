"""Heads that see different frames of the same memory, as a table of a checkpoint says (Forcing-KV, Dummy Forcing)."""

from __future__ import annotations

from collections.abc import Sequence

from .regions import Layout, of_head
from .views import Heads, joined


def groups_of(row: Sequence[tuple[int, int]], layout: Layout, frames: int, size: int) -> tuple[Heads, ...]:
    """The heads of a layer, together where they see the same, for a call of `frames` behind a past of `layout`.

    row: per head, how many of the first and of the newest frames it sees. size: tokens of a frame.
    """
    own, found = (layout.past * size, (layout.past + frames) * size), list[Heads]()
    for pair in dict.fromkeys(row):
        numbers = tuple(number for number, other in enumerate(row) if other == pair)
        parts = of_head(layout, *pair)
        slots = [slot for part in parts for slot in part]
        tokens = joined([*((part.start * size, part.stop * size) for part in parts), own])
        found.append(Heads(numbers, tokens, layout.only(slots, frames).regions()))
    return tuple(found)
