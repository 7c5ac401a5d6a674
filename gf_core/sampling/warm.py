"""A film of nothing, made before a film: whatever is compiled or chosen for its network calls is then there.

The film's own loop and sampler go through its verbs, so every kind of call that the film will ask for comes up: of
whatever method, over pictures that are given, behind a switch that comes early. Of each kind one call is made, and the
others give nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ..config import MemorySpec
from ..memory.recache import Blend
from ..memory.store import DualMemory
from ..memory.views import View
from ..model.forward import Call
from ..model.pieces import TOGETHER
from ..timeline.plan import Plan, PlannedSegment
from .film import Cues, InHand, film_chunks
from .sampler import Chunk, Clean, Sampler

MOST = 256
"""Chunks that the film of nothing has at most: of a film in very many shots the last may bring something new."""
SMALL = 4096
"""Numbers in a part of a snapshot that says who is in memory; what is larger is keys, values and latents."""


def warm_up(sampler: Sampler, plan: Plan, lead: int = 0) -> None:
    """Make one network call of every kind that a plan asks for; the sampler is fresh, and is so afterwards.

    lead: latent frames that the film starts from.
    """
    director = sampler.director
    memory, nothing = director.memory, partial(torch.zeros, device=director.device, dtype=director.dtype)
    plan = _shortened(plan, _steady_after(memory.spec, plan.timing.latency))
    rows, picture = nothing(1, 1, director.spec.text_dim), nothing(director.shape(1))
    pictures = {file: picture for segment in plan.segments for file in segment.pictures}
    start = nothing(director.shape(lead)) if lead else None

    def feed(chunk: Chunk) -> Iterator[Clean]:
        shape = director.shape(plan.timing.latent_frames(chunk.index))
        return sampler.feed(replace(chunk, noise=lambda step: nothing(shape)))

    with director.calling(OneOfAKind(memory)):
        cues = Cues(plan, [rows] * len(plan.segments), pictures, _Hollow(plan))
        for _ in film_chunks(sampler, cues, lead=start, feed=feed):
            pass


class OneOfAKind:
    """`Call.run` for a film of nothing: a call is made if none of its kind was, and leaves nothing behind."""

    def __init__(self, memory: DualMemory) -> None:
        self._memory, self._made = memory, set[Hashable]()

    def __call__(self, asked: Call) -> Tensor | None:
        """As `Call.run`, but for what it gives."""
        # Where gradients flow, and on several ranks, nothing is compiled.
        assert isinstance(asked.memory, (View, Blend))
        kind = (id(asked.model), asked.latents.shape, asked.time[1].shape, asked.want_flow, asked.memory.kind)
        if kind not in self._made:
            self._made.add(kind)
            asked.run()
            for store in (self._memory.raw_k, self._memory.v):  # what lies in memory can decide what it does
                store.zero_()
        return torch.zeros_like(asked.latents) if asked.want_flow else None


class _Hollow(InHand):
    """Keeps of states who is in memory; all the rest is zeros."""

    def keep(self, number: int, state: dict[str, Tensor]) -> None:
        hollow = {
            name: part if part.numel() <= SMALL else part.new_zeros(()).expand(part.shape)
            for name, part in state.items()
        }
        super().keep(number, hollow)


def _steady_after(spec: MemorySpec, latency: int) -> int:
    """Chunks after which a segment brings no new kind of call: memory is full, and older than a recache reaches."""
    frames = spec.slots + (spec.recache_reach or 0)
    if spec.bank and not spec.averages:  # filled frame by frame, and turned so many at a time
        frames += spec.bank_from + min(spec.bank, TOGETHER) * spec.bank_every * spec.chunk
    return -(-frames // spec.chunk) + latency + 1


def _shortened(plan: Plan, chunks: int) -> Plan:
    """The plan with segments of at most so many chunks, and of at most `MOST` in all."""
    segments, first = list[PlannedSegment](), 0
    for segment in plan.segments:
        count = min(segment.chunks, chunks)
        if segments and first + count > MOST:
            break
        blend = min(segment.blend_chunks, count)
        segments.append(replace(segment, first_chunk=first, chunks=count, blend_chunks=blend))
        first += count
    return Plan(plan.timing, tuple(segments))
