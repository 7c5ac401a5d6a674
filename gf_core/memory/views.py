"""What one network call sees of the memory, and where it writes its own keys and values."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from ..attention import Kernel, Where, attend
from ..model.pieces import Pieces
from ..rope import rotate
from .packed import fill, values_of


@dataclass(frozen=True)
class Place:
    """Where in a layer's run of slots a call writes, in tokens, and what it sees there."""

    start: int
    stop: int
    queries: Tensor
    keys: Tensor
    """Rotations of the call's queries and of the keys that it writes."""
    parts: tuple[tuple[int, int], ...]
    """Runs of slots that are seen, in order; one of them needs no copy."""
    regions: tuple[tuple[str, int], ...]
    """The same as a kernel is told (`Where`)."""
    past: tuple[tuple[int, Tensor], ...] = ()
    """First token and rotation of runs of slots that are turned for this call; () where they lie turned."""
    heads: tuple[Heads, ...] = ()
    """Groups of heads that see something else each, all heads in one of them; () where all see `parts`."""


@dataclass(frozen=True)
class Heads:
    """Heads of a layer that see the same."""

    numbers: tuple[int, ...]
    parts: tuple[tuple[int, int], ...]
    regions: tuple[tuple[str, int], ...]
    """() where parts of frames are seen."""


def joined(parts: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Runs of slots in order, those that touch made one, the empty ones left out."""
    found: list[tuple[int, int]] = []
    for start, stop in parts:
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], stop)
        elif stop > start:
            found.append((start, stop))
    return tuple(found)


class Slots(Protocol):
    """What a view asks of the memory (`store.DualMemory`); buffers are [l b s h d]."""

    raw_k: Tensor
    k: Tensor
    v: Tensor
    packed: bool
    kernel: Kernel
    pieces: Pieces
    tokens_per_frame: int
    grid: tuple[int, int]

    def seen(self, layer: int) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class _Opened:
    """A layer's slots [b s h d]: those that a call writes, and the runs that it reads."""

    raw_k: Tensor
    k: Tensor
    v: Tensor
    seen: tuple[list[Tensor], ...]


class View:
    """Self-attention of one network call: reads the past, writes its own frames, attends over one slice."""

    def __init__(self, memory: Slots, places: Sequence[Place], *, keep: bool, skip: int = 0) -> None:
        """places: one per layer; skip: leading query tokens whose k and v are not written."""
        self._memory, self._skip, self._keep, self._places = memory, skip, keep, places
        self._where = [Where(layer, place.regions, memory.grid) for layer, place in enumerate(places)]
        self._opened = [self._open(layer, place) for layer, place in enumerate(places)]
        groups = {group.numbers for place in places for group in place.heads}
        self._heads = {numbers: torch.tensor(numbers, device=memory.k.device) for numbers in groups}

    @property
    def places(self) -> Sequence[Place]:
        """One per layer, for good: the slots of each are open."""
        return self._places

    def at(self, places: Sequence[Place]) -> View:
        """The same with other places."""
        return View(self._memory, places, keep=self._keep, skip=self._skip)

    @cached_property
    def layout(self) -> tuple[Hashable, list[Tensor]]:
        """Everything that decides what a call does with which addresses, and the rotations, which may change.

        Equal layouts of one memory do the same, each with rotations of its own.
        """
        turns, places = dict[int, tuple[int, Tensor]](), list[Hashable]()

        def number(turn: Tensor) -> int:
            # By identity: layers that share a rotation share its number.
            return turns.setdefault(id(turn), (len(turns), turn))[0]

        for place in self.places:
            past = tuple((start, number(turn)) for start, turn in place.past)
            own = (place.start, place.stop, number(place.queries), number(place.keys))
            places.append((*own, place.parts, place.regions, past, place.heads))
        return (self._keep, self._skip, tuple(places)), [turn for _, turn in turns.values()]

    @property
    def kind(self) -> Hashable:
        """What the shapes of all that a call works on follow from, beside those of its own tokens."""
        lengths = {
            (tuple(len(turn) for _, turn in place.past), tuple(stop - start for start, stop in place.parts))
            for place in self.places
        }
        return self._keep, self._skip, frozenset(lengths)

    def over(self, turns: Sequence[Tensor]) -> View:
        """The same with other tensors for the rotations of `layout`."""
        new = {id(mine): theirs for mine, theirs in zip(self.layout[1], turns)}
        return self.at(
            [
                replace(
                    place,
                    queries=new[id(place.queries)],
                    keys=new[id(place.keys)],
                    past=tuple((start, new[id(turn)]) for start, turn in place.past),
                )
                for place in self.places
            ]
        )

    def written(self) -> list[Tensor]:
        """The slots that a call writes [b s h d], of every layer."""
        memory, stores = self._memory, list[Tensor]()
        for layer, place in enumerate(self.places):
            here = slice(place.start, place.stop)
            stores += [memory.v[layer, :, here], *([memory.raw_k[layer, :, here]] if self._keep else [])]
        return stores

    def attend(self, layer: int, q: Any, raw_k: Any, v: Tensor) -> Tensor:
        """Attention of this call's tokens over memory and themselves; all [b s h d], q and raw_k as `Pieces.fresh`."""
        memory, place = self._memory, self._places[layer]
        # First, as what is seen includes the call's own keys and values.
        self.write(layer, raw_k, v)
        if place.past:
            self._turn_past(layer)
        q = memory.pieces.turned(q, place.queries)
        if place.heads:
            return self._by_heads(layer, q, place.heads)
        seen = self._opened[layer].seen
        k, values = (runs[0] if len(runs) == 1 else torch.cat(runs, 1) for runs in seen)  # b t h d
        return attend(q, k, values, kernel=memory.kernel, where=self._where[layer])

    def _open(self, layer: int, place: Place) -> _Opened:
        """The slots of a layer, which a chunk's calls touch one after the other."""
        here, (k, values) = slice(place.start, place.stop), self._memory.seen(layer)
        runs = ([store[:, start:stop] for start, stop in place.parts] for store in (k, values))
        return _Opened(self._memory.raw_k[layer, :, here], k[:, here], values[:, here], tuple(runs))

    def _by_heads(self, layer: int, q: Tensor, groups: tuple[Heads, ...]) -> Tensor:
        """Attention where heads see different frames, group by group."""
        memory, out = self._memory, torch.empty_like(q)
        for group in groups:
            numbers = self._heads[group.numbers]
            # b t h d, of these heads.
            k, v = (_seen(store, group.parts)[:, :, numbers] for store in memory.seen(layer))
            where = Where(layer, group.regions, memory.grid) if group.regions else None
            out[:, :, numbers] = attend(q[:, :, numbers], k, v, kernel=memory.kernel, where=where)
        return out

    def write(self, layer: int, raw_k: Any, v: Tensor) -> None:
        """Place this call's keys and values [b s h d] in their slots; raw keys only when they are to be kept."""
        memory, place, opened = self._memory, self._places[layer], self._opened[layer]
        if self._skip:
            raw_k, v = raw_k[:, self._skip :], v[:, self._skip :]  # queries only
        if self._keep and memory.packed:
            raw_k = memory.pieces.values_of(raw_k)
            fill(opened.raw_k, raw_k)
            fill(memory.v[layer, :, place.start : place.stop], v)
        # Of a memory that is not packed, `values` are the slots that stay.
        raw = opened.raw_k if self._keep and not memory.packed else None
        memory.pieces.lay_in(raw_k, v, place.keys, opened.k, opened.v, raw)

    def _turn_past(self, layer: int) -> None:
        """Put the past of a layer where attention reads it, if all layers share that place, one after the other."""
        memory = self._memory
        k, values = memory.seen(layer)
        for start, turn in self._places[layer].past:
            run = slice(start, start + len(turn))
            if memory.packed:
                rotate(values_of(memory.raw_k[layer, :, run]), turn, out=k[:, run])
                values[:, run].copy_(values_of(memory.v[layer, :, run]))
            else:
                raw, frames = memory.raw_k[layer : layer + 1, :, run], len(turn) // memory.tokens_per_frame
                memory.pieces.turn_all(raw, turn, k[None, :, run], frames)


def wave(memory: Slots, places: Sequence[Place], frames: Sequence[int]) -> list[View]:
    """A view for each of the chunks that `places` are of, so many frames each, which sees those before it.

    They keep raw keys, and each turns what the ones before it have written: it may have come from another rank.
    """
    views, size = list[View](), memory.tokens_per_frame
    for number, count in enumerate(frames):
        first, found = sum(frames[:number]) * size, dict[int, Place]()
        here = slice(first, first + count * size)
        for place in places:  # layers that are alike share one
            if id(place) not in found:
                found[id(place)] = _part_of(place, here, size)
        views.append(View(memory, [found[id(place)] for place in places], keep=True))
    return views


def _part_of(place: Place, here: slice, size: int) -> Place:
    """The place of some of a call's tokens, whose other tokens before them are seen like the past."""
    turn, stop = place.queries[here], place.start + here.stop
    *regions, (name, _) = place.regions
    before = ((place.start, place.queries[: here.start]),) if here.start else ()
    return replace(
        place,
        start=place.start + here.start,
        stop=stop,
        queries=turn,
        keys=turn,
        parts=(*place.parts[:-1], (place.parts[-1][0], stop)),  # the last run holds the call's own
        regions=(*regions, (name, here.stop // size)),
        past=place.past + before,
    )


def _seen(store: Tensor, parts: tuple[tuple[int, int], ...]) -> Tensor:
    """The given runs of slots [b s h d] of one layer; a copy only where there are several."""
    runs = [store[:, start:stop] for start, stop in parts]
    return runs[0] if len(runs) == 1 else torch.cat(runs, 1)
