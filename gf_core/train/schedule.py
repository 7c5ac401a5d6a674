"""What each chunk of a training clip may see: the dual memory's bookkeeping on known frames.

Training must show a model the memory that it will have when it runs: anchors at position 0, recent frames at 3 to 8,
nothing recent after a cut, blended keys after a prompt switch. This module replays the engine's rules on frame
numbers and hands back index tables; `train.context` turns them into attention. Pure Python and torch indices.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from ..config import MemorySpec

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


def proximity_weights(count: int, window: int, alpha_max: float) -> list[float]:
    """Share of new keys, oldest to newest, of the newest `count` frames in a window (paper Eq. 12, distance from 1)."""
    return [min(alpha_max, max(0.0, 1 - d / window)) for d in range(count, 0, -1)]


def plan_schedule(chunks: int, verbs: dict[int, str], memory: MemorySpec, rng: random.Random) -> Schedule:
    """The memory of each chunk, for events `verbs` (chunk -> then, cut or scene).

    Where the engine would choose a replacement anchor by similarity, a random one is drawn: the model must be able to
    read any anchors that the policy may come to hold.
    """
    schedule, anchors, recent = Schedule(), [], []
    frame_of = list(range(chunks * memory.chunk))
    replace = rng.random() < 0.5
    fresh_from = None

    def evict(slots: list[int]) -> None:
        nonlocal fresh_from
        for slot in slots:
            if len(anchors) < memory.anchors:
                anchors.append(slot)
            elif replace and fresh_from is not None and frame_of[slot] >= fresh_from:
                anchors[rng.randrange(len(anchors))] = slot
                fresh_from = None

    for chunk in range(chunks):
        verb = verbs.get(chunk)
        if verb == "scene":
            anchors, recent, fresh_from = [], [], None
        elif verb == "cut":
            evict(recent)
            recent, fresh_from = [], chunk * memory.chunk
        overflow = max(0, len(recent) - memory.recent)
        evict(recent[:overflow])
        recent = recent[overflow:]
        if verb == "then":
            recent = _recache(schedule, chunk, anchors, recent, frame_of, memory)
            fresh_from = chunk * memory.chunk
        schedule.views.append(
            ChunkView(_pad(anchors, memory.anchors), _pad(recent, memory.recent), len(anchors))
        )
        recent = recent + list(range(chunk * memory.chunk, (chunk + 1) * memory.chunk))
    return schedule


def _recache(
    schedule: Schedule,
    chunk: int,
    anchors: list[int],
    recent: list[int],
    frame_of: list[int],
    memory: MemorySpec,
) -> list[int]:
    """Add a recache of the recent frames; returns the bank slots that hold the blended ones."""
    base = len(frame_of)
    frames = [frame_of[slot] for slot in recent]
    empty = memory.recent - len(recent)
    frame_of.extend([EMPTY] * empty + frames)
    weights = [0.0] * empty + proximity_weights(len(recent), memory.recent, memory.alpha_max)
    schedule.recaches.append(
        Recache(
            chunk,
            _pad(anchors, memory.anchors),
            _pad(recent, memory.recent),
            _pad(frames, memory.recent),
            tuple(weights),
        )
    )
    return list(range(base + empty, base + memory.recent))


def _pad(slots: list[int], size: int) -> tuple[int, ...]:
    return (EMPTY,) * (size - len(slots)) + tuple(slots)
