"""What each chunk of a training clip may see: the dual memory's bookkeeping on known frames.

Training must show a model the memory that it will have when it runs: anchors at position 0, recent frames at 3 to 8,
nothing recent after a cut, blended keys after a prompt switch. The engine's own ledger is asked on frame
numbers, and its answers are handed back as index tables; `train.context` turns them into attention.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..config import MemorySpec
from ..memory.ledger import Ledger, Move
from ..memory.recache import proximity

EMPTY = -1


@dataclass(frozen=True)
class ChunkView:
    """One chunk's memory as slots of the bank: clean frames first, then the blended frames of each recache."""

    anchors: tuple[int, ...]
    """Bank slots of the anchors, right-aligned with EMPTY to the memory's size."""
    recent: tuple[int, ...]
    """Bank slots of the recent frames, oldest first, right-aligned with EMPTY."""
    first_recent: int
    """Time position of the oldest recent frame (the number of anchors)."""


@dataclass(frozen=True)
class Recache:
    """Recent frames recomputed under a new prompt and blended into bank slots of their own."""

    chunk: int
    """First chunk under the new prompt."""
    anchors: tuple[int, ...]
    """Context of the recomputation."""
    source: tuple[int, ...]
    """Bank slots whose keys are blended (the old side), right-aligned with EMPTY."""
    frames: tuple[int, ...]
    """Frame numbers whose latents are recomputed, right-aligned with EMPTY."""
    alphas: tuple[float, ...]
    """Share of the recomputed side for each of them."""


@dataclass
class Schedule:
    """Views of all chunks of a clip and the recaches between them."""

    views: list[ChunkView] = field(default_factory=list)
    recaches: list[Recache] = field(default_factory=list)


def plan_schedule(chunks: int, verbs: dict[int, str], memory: MemorySpec, rng: random.Random) -> Schedule:
    """The memory of each chunk, for events `verbs` (chunk -> then, cut or scene).

    Where the engine would choose a replacement anchor by similarity, a random one is drawn: the model must be able to
    read any anchors that the policy may come to hold.
    """
    schedule, ledger = Schedule(), Ledger(memory)
    slot_of = {number: number for number in range(chunks * memory.chunk)}
    """Frame -> where in the bank its keys lie now."""
    anchors: list[int] = []
    replace = rng.random() < 0.5

    def choose(sample: int, source: int) -> int | None:
        return rng.randrange(len(anchors)) if replace else None

    def run(moves: Iterator[Move]) -> None:
        for move in moves:  # an anchor keeps the slot that it had when it left recent memory
            leaving = [slot_of[frame.number] for frame in ledger.recent]
            if move.kind == "promote":
                anchors.extend(leaving[: move.count])
            elif move.kind == "replace":
                anchors[move.target] = leaving[move.source]

    for chunk in range(chunks):
        verb = verbs.get(chunk, "")
        run(ledger.begin(verb, choose))
        if verb == "scene":
            anchors.clear()
        run(ledger.make_room(memory.recent, choose))
        recent = [frame.number for frame in ledger.recent]
        if verb == "then":
            schedule.recaches.append(_recache(chunk, anchors, recent, slot_of, memory))
            base = (chunks * memory.chunk) + len(schedule.recaches) * memory.recent - len(recent)
            slot_of |= {number: base + place for place, number in enumerate(recent)}
        held = [slot_of[number] for number in recent]
        schedule.views.append(
            ChunkView(_pad(anchors, memory.anchors), _pad(held, memory.recent), len(anchors))
        )
        ledger.commit(memory.chunk)
    return schedule


def _recache(
    chunk: int, anchors: list[int], recent: list[int], slot_of: dict[int, int], memory: MemorySpec
) -> Recache:
    """The recent frames recomputed: each recache has `memory.recent` slots of the bank for the blended ones."""
    shares = proximity(len(recent), memory.recent, memory.alpha_max)
    return Recache(
        chunk,
        _pad(anchors, memory.anchors),
        _pad([slot_of[number] for number in recent], memory.recent),
        _pad(recent, memory.recent),
        (0.0,) * (memory.recent - len(recent)) + tuple(shares),
    )


def _pad(slots: list[int], size: int) -> tuple[int, ...]:
    return (EMPTY,) * (size - len(slots)) + tuple(slots)
