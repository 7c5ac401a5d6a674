"""Puts a sampler and a decoder where a film left off: from the nearest kept state, then by replaying what follows.

A replay runs the clean pass over each stored chunk under the cues of the storyboard, which is all that a chunk leaves
in the memory: the result has the same bits as sampling had. Wherever a run has recorded the digest of a state, the
replayed one is held against it. A chunk whose latents are damaged or gone is sampled again on the way: its key is what
it was, so are its bytes, and all that comes behind it stays.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import TakeError
from ..files.pieces import digest
from ..memory.policies import POLICIES
from ..sampling.film import Cues, replay
from ..sampling.sampler import Sampler
from ..take.states import StateStore, decoder_name, memory_name, window_name
from ..vae.decoders import begin_apart, chunks_within_reach, remembers
from .film import Film, Job
from .recalled import OnDisk

if TYPE_CHECKING:
    from ..vae.base import StreamDecoder

log = logging.getLogger("grounded")

Tick = Callable[[int, int], None]
"""Called after a chunk was replayed, with its number and where the replay ends; may raise to stop."""


@dataclass(frozen=True)
class Rejoined:
    """How a state was reached."""

    replayed: int
    """Chunks run again."""
    exact: bool | None
    """Whether every digest met on the way agreed; None when none was met."""


def state_names(film: Film) -> set[str]:
    """Names of every state that the film has at its segments' ends."""
    codec = remembers(film.bundle.codec)
    keys = [segment.last_key for segment in film.plan.segments]
    return {name for key in keys for name in (memory_name(key), decoder_name(key, codec))}


@torch.no_grad()
def rejoin_sampler(
    sampler: Sampler,
    job: Job,
    memories: OnDisk,
    stored: Callable[[int], Tensor],
    mend: Callable[[int], None],
    tick: Tick,
) -> Rejoined:
    """Bring a fresh sampler to where it was after the chunks of `job.reuse`.

    memories: what segments go back to. stored: index of a chunk -> its latents [f c h w]. mend: samples a chunk without
    latents. Raises TakeError when stored latents cannot be read.
    """
    film, reuse, stop = job.film, job.reuse, job.stop
    holes, done = reuse.holes, len(reuse.chunks)
    if done == stop:  # it does not go on: only the holes are filled
        done = stop = holes[-1] + 1 if holes else 0
    at = begun = _start_sampler(sampler, film, min([done, *holes]), stop, job.store, memories)
    checks, cues = list[bool](), Cues(film.plan, job.embeds, job.pictures, memories)

    def latents(index: int) -> Tensor:
        return stored(index)[None]

    def ready(index: int) -> None:
        film.make_ready()

    # From hole to hole: sampling one brings the memory on as a replay would.
    for hole in [*holes, done]:
        for index in replay(sampler, cues, latents, at, hole, film.lead, ready):
            # Snapshots cost a copy of the memory, so only where a digest is known.
            wanted = reuse.digests.get(memory_name(film.plan.chunk_keys[index]))
            if wanted is not None:
                checks.append(digest(sampler.snapshot()) == wanted)
            tick(index, done)
        if hole < done:
            mend(hole)
        at = hole + 1
    if film.recipe.latency and 0 < done < stop:
        _take_up(sampler, film, done, job.store)
    sampler.director.memory.log.clear()  # the evaluations of the replayed chunks are in the journal
    return _told("memory", begun, done, checks)


def _take_up(sampler: Sampler, film: Film, done: int, store: StateStore) -> None:
    """Go on with the chunks that were on the way after `done`; at a segment's end there are none.

    Raises TakeError: they are gone since the Take was looked at.
    """
    if done == film.plan.segments[film.plan.places[done - 1][0]].end:
        return
    state = store.load(window_name(film.plan.chunk_keys[done - 1]))
    if state is None:
        raise TakeError(f"what was on the way behind chunk {done - 1} is gone", "render again")
    sampler.take_up(state)


def _start_sampler(
    sampler: Sampler, film: Film, done: int, stop: int, store: StateStore, memories: OnDisk
) -> int:
    """Put `sampler` at the last place, no later than after `done` chunks, that needs no replay; returns where.

    A kept state is one; so is the end in front of a scene, which forgets everything but the count of frames and
    prompts, and in front of a segment that goes back. (A running mean is not emptied by a scene, so its digest would
    differ: it is replayed.) All that is gone back to from there to chunk `stop` is kept, or made by the replay.
    """
    plan, policy = film.plan, POLICIES[film.recipe.memory.anchor_policy]
    forgets = ("back",) if policy.averages else ("back", "scene")
    # Backwards from where the film goes on: the first place found leaves the least to replay.
    for end in range(done, 0, -1):
        number, _ = plan.places[end - 1]
        after = plan.segments[number + 1].verb if number + 1 < len(plan.segments) else ""
        begins_anew = after in forgets and end == plan.segments[number].end
        name = memory_name(plan.chunk_keys[end - 1])
        if not (begins_anew or name in store.names()) or memories.lost(end, stop):
            continue
        if begins_anew:
            # The memory is empty there, but frames and prompts are numbered through the film.
            frames = sum(plan.timing.latent_frames(index) for index in range(end))
            sampler.director.skip(film.lead + frames, number)
            return end
        state = store.load(name)
        if state is not None:
            sampler.restore(state)
            return end
    return 0


@torch.no_grad()
def rejoin_decoder(decoder: StreamDecoder, job: Job, stored: Callable[[int], Tensor], tick: Tick) -> Rejoined:
    """Bring a fresh decoder to where it was after the pictures that `job.reuse` takes over.

    It looks back a fixed number of frames, so at most those are decoded again, whatever the length of the film.
    """
    film, reuse = job.film, job.reuse
    keys, codec, done = film.plan.chunk_keys, remembers(film.bundle.codec), reuse.decoded
    reach = chunks_within_reach(film.bundle.codec, film.recipe.memory.chunk)
    begun = int(max(0, done - reach))
    settled = begun + reach if begun else 0  # the first chunk after which the state is that of the whole film
    # A kept state nearer than that saves the rest, and is exact at once.
    for end in range(done, begun, -1):
        state = job.store.load(decoder_name(keys[end - 1], codec))
        if state is not None:
            decoder.restore(state)
            begun = settled = end
            break
    checks = []
    for index in range(begun, done):
        if index in film.apart:
            begin_apart(decoder)
        # What it gives is in the film already. In the pieces of the first time: a card may sum others otherwise.
        for piece in stored(index).split(film.recipe.memory.chunk):
            decoder.decode(piece.to(film.bundle.decodes_on))
        wanted = reuse.digests.get(decoder_name(keys[index], codec))
        if wanted is not None and index + 1 >= settled:
            checks.append(digest(decoder.snapshot()) == wanted)
        tick(index, done)
    return _told("decoder", begun, done, checks)


def _told(name: str, begun: int, done: int, checks: list[bool]) -> Rejoined:
    if not all(checks):
        log.warning(
            "the %s's replayed state differs from the recorded one: what follows may differ by a hair", name
        )
    return Rejoined(done - begun, all(checks) if checks else None)
