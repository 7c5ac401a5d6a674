"""The one film loop: a plan's verbs and noise fed to a sampler chunk by chunk, clean chunks out.

Renders, trials, the evaluation and the benchmarks all run it; `replay` is its other half, which puts a director where
stored chunks left off. What a verb does to the prompt and the memory is said here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import GroundedError
from .noise import check_noise, noise_of
from .sampler import Chunk, Clean, Sampler

if TYPE_CHECKING:
    from ..timeline.plan import Plan
    from .director import Director


class Memories(Protocol):
    """Keeps the sampler's state at the ends of segments that later ones go back to (`Plan.recalled`)."""

    def keep(self, number: int, state: dict[str, Tensor]) -> None:
        """Keep a `Sampler.snapshot` from the end of segment `number` of the plan."""
        ...

    def recall(self, number: int, to: int) -> dict[str, Tensor]:
        """What was kept at the end of segment `number`, for segment `to`."""
        ...


class InHand:
    """Keeps states in the computer's memory, each until the last segment that goes back to it has begun."""

    def __init__(self, plan: Plan) -> None:
        self._last, self._states = plan.recalled, dict[int, dict[str, Tensor]]()

    def keep(self, number: int, state: dict[str, Tensor]) -> None:
        self._states[number] = state

    def recall(self, number: int, to: int) -> dict[str, Tensor]:
        """Raises GroundedError where the film was not made, or replayed, from that segment's end on."""
        if number not in self._states:
            raise GroundedError(
                f"nobody has kept the memory at the end of segment {number + 1}",
                "make the film from there on",
            )
        return self._states.pop(number) if self._last[number] == to else self._states[number]


Feed = Callable[[Chunk], Iterator[Clean]]
"""`Sampler.feed`, or something around it."""


def mix_embeds(old: Tensor, new: Tensor, share: float) -> Tensor:
    """(1 - share) old + share new, both [b rows c]; the shorter one is padded with the zero rows it stands for."""
    rows = max(old.shape[1], new.shape[1])
    old, new = (F.pad(embeds, (0, 0, 0, rows - embeds.shape[1])) for embeds in (old, new))  # b rows c each
    return torch.lerp(old, new, share)


def carry_out(director: Director, verb: str, prompt: Tensor, recache: float | None = None) -> None:
    """Do what a verb does to the prompt and the memory; recache: alpha_max of a `then`, None the memory's.

    `back` is not among them: it needs a state (`Director.back`).
    """
    if verb == "then":
        director.switch(prompt, alpha_max=recache)
    else:
        {"start": director.start, "cut": director.cut, "scene": director.scene}[verb](prompt)


class Cues:
    """What a director is told in a film of `plan`.

    embeds: one [b rows c] per segment.
    pictures: latents [b or 1, 1, c, h, w] of the cast's, by file, which enter memory where the plan says.
    memories: what segments go back to; None keeps them in hand.
    """

    def __init__(
        self,
        plan: Plan,
        embeds: Sequence[Tensor],
        pictures: Mapping[str, Tensor] | None = None,
        memories: Memories | None = None,
    ) -> None:
        self.plan, self.memories = plan, memories or InHand(plan)
        self._embeds, self._pictures = embeds, pictures or {}

    def give(self, director: Director, index: int) -> None:
        """Tell `director` what chunk `index` of the film begins with.

        A blend over k chunks moves the text by 1/k per chunk; the chunk that reaches the new prompt makes the one
        switch of the memory. Without a blend that is the first chunk.
        """
        number, chunk = self.plan.places[index]
        segment, new = self.plan.segments[number], self._embeds[number]
        if segment.verb == "then":
            steps = max(1, segment.blend_chunks)
            if chunk < steps - 1:
                director.blend(mix_embeds(self._embeds[number - 1], new, (chunk + 1) / steps))
            elif chunk == steps - 1:
                carry_out(director, "then", new, segment.recache)
        elif segment.back is not None:
            if chunk == 0:
                state = self.memories.recall(segment.back, number)
                director.back(new, state=state, motion=segment.motion)
        elif chunk == 0:
            carry_out(director, segment.verb, new)
        # Behind the verb, as a scene would forget them again.
        if chunk == 0:
            for file in segment.pictures:
                director.give(self._pictures[file])


def _lay_in(director: Director, lead: Tensor) -> None:
    """Commit latents [b f c h w] that a film starts from, in chunks as the model makes them."""
    for part in lead.split(director.memory.spec.chunk, 1):
        director.prefill(part)


def film_chunks(
    sampler: Sampler,
    cues: Cues,
    *,
    start: int = 0,
    stop: int | None = None,
    lead: Tensor | None = None,
    before: Callable[[int], None] | None = None,
    feed: Feed | None = None,
) -> Iterator[Clean]:
    """Make chunks `start` to `stop` (None: the film's last) of a film, in order.

    sampler: fresh, or brought to where chunk `start` begins.
    lead: latents [b f c h w] that the film starts from; they enter memory before chunk 0 and are not given.
    before: called with a chunk's index before anything is done for it; may raise to stop.
    feed: called in place of `sampler.feed`.
    """
    director, plan = sampler.director, cues.plan
    check_noise(director.sample, plan)
    for index in range(start, plan.chunks if stop is None else stop):
        number, _ = plan.places[index]
        if before is not None:
            before(index)
        if not sampler.holds(index):  # else its segment's verb has been carried out
            cues.give(director, index)
            if index == 0 and lead is not None:
                _lay_in(director, lead)
        shape = director.shape(plan.timing.latent_frames(index))
        wanted = Chunk(index, noise_of(director.sample, plan, index, shape))
        yield from (feed or sampler.feed)(wanted)
        if index + 1 == plan.segments[number].end:  # so that no chunk sees a later segment
            yield from sampler.flush()
            if number in plan.recalled:
                cues.memories.keep(number, sampler.snapshot())
    yield from sampler.flush()


def replay(
    sampler: Sampler,
    cues: Cues,
    stored: Callable[[int], Tensor],
    start: int,
    stop: int,
    lead: int = 0,
    before: Callable[[int], None] | None = None,
) -> Iterator[int]:
    """Run the clean pass over stored chunks `start` to `stop`, which leaves the sampler as making them did.

    stored: index -> latents [b f c h w]; those of the film's start, `lead` latent frames, come first in chunk 0.
    before: as in `film_chunks`. Gives each index when it is done.
    """
    director, plan, cued = sampler.director, cues.plan, start
    for index in range(start, stop):
        if before is not None:
            before(index)
        number, _ = plan.places[index]
        # Where chunks are on the way together, later ones of the segment had been fed when this one was finished.
        while cued < min(index + plan.timing.latency + 1, plan.segments[number].end):
            cues.give(director, cued)
            cued += 1
        latents = stored(index)
        if index == 0 and lead:
            _lay_in(director, latents[:, :lead])
            latents = latents[:, lead:]
        director.prefill(latents)
        if number in plan.recalled and index + 1 == plan.segments[number].end:
            cues.memories.keep(number, sampler.snapshot())
        yield index
