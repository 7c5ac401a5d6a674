"""Long films learned piece by piece: one film goes on from update to update, its memory with it (LongLive, 2509.22622).

Every update, the student's and the critic's, makes the next piece. A loss sees the newest window, of which the
frames made before count for nothing; what lies before a piece has no gradient. A film that cannot take another
piece gives way to a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..config import MemorySpec
from ..errors import GroundedError
from ..model.layers import Tree
from ..sampling.director import Director, Trace
from ..sampling.sampler import Sampler
from .films import Cue, FilmBatch
from .rollout import RolloutSpec, Watch, Window, make_chunks, nobody, roll_out, sampler_for, with_past


@dataclass(frozen=True)
class StreamSpec:
    """How long films are cut into pieces; the defaults are LongLive's."""

    longest: int = 240
    """Latent frames that a film never passes."""
    piece: int = 18
    """Latent frames of a piece; a film's first is a whole window."""


@dataclass(frozen=True)
class Piece:
    """A piece of a film, in latent frames of it."""

    start: int
    stop: int
    window: int
    """First frame of what the loss sees."""
    learn_from: int
    """First frame that has a gradient: after a switch inside the piece, that of the switch."""

    @property
    def learned(self) -> list[bool]:
        """Whether each frame of the window counts."""
        return [frame >= self.start for frame in range(self.window, self.stop)]


def next_piece(length: int, film: RolloutSpec, spec: StreamSpec, switches: Iterable[int]) -> Piece:
    """What follows `length` frames; from 0 where it is a new film. switches: the blocks that begin with a verb."""
    start = length if length and length + spec.piece <= spec.longest else 0
    stop = start + (spec.piece if start else film.window)
    inside = [block * film.chunk for block in switches if start < block * film.chunk < stop]
    return Piece(start, stop, max(0, stop - film.window), max(inside, default=start))


def check_stream(memory: MemorySpec) -> None:
    """Refuse a memory under which chunks are on the way where a piece ends. Raises GroundedError."""
    if memory.rolling is not None:
        raise GroundedError(
            "films whose chunks are denoised together do not go on from step to step",
            "train on films that are made anew for every step (no stream), or under another memory",
        )


@dataclass
class Stream:
    """A film under way. Memory keeps what earlier weights wrote; prompts and levels are computed anew for each
    piece."""

    film: RolloutSpec
    spec: StreamSpec = field(default_factory=StreamSpec)
    length: int = 0
    """Latent frames made."""
    films: int = 0
    """Films begun."""
    story: FilmBatch | None = None
    """The prompts and verbs of this film; verbs by their block in the whole film."""
    sampler: Sampler | None = None
    tail: Tensor | None = None
    """Its newest clean latents [b f c h w], a window of them at most; all of them where losses see its past."""
    watch: Callable[[Director, Trace], None] | None = None
    """Follows the calls of every film's director."""

    def __post_init__(self) -> None:
        """Raises GroundedError for a memory that no film goes on under."""
        check_stream(self.film.recipe.memory)

    def advance(self, net: Tree, batch: FilmBatch) -> tuple[FilmBatch, Window]:
        """The next piece as a loss sees it, and the prompts that it is judged by.

        batch: the draws of this piece; also the prompts and verbs of a new film, if one begins.
        """
        story = batch if self.story is None else self.story
        piece = next_piece(self.length, self.film, self.spec, story.cues)
        if not piece.start or self.sampler is None:
            self._begin(net, batch)
            story = batch
            piece = next_piece(0, self.film, self.spec, story.cues)
        told = self._told(story, piece, batch)
        assert self.sampler is not None
        director, size = self.sampler.director, self.film.chunk
        # What the last update computed is freed: no gradient goes back into it.
        director.memory.gradients.detach()
        # Told anew, as the weights that read the prompt have changed.
        director.blend(told.prompt)
        chunks, first = (piece.stop - piece.start) // size, (piece.learn_from - piece.start) // size
        made = make_chunks(self.sampler, self.film, told, chunks, first)
        latents = made if self.tail is None else torch.cat([self.tail, made], 1)  # b f c h w
        kept = latents if self.film.past else latents[:, -self.film.window :]
        self.tail, self.length = kept.detach(), piece.stop
        learned = torch.tensor(piece.learned, device=made.device)
        return told, with_past(latents, self.film, None if bool(learned.all()) else learned)

    def _begin(self, net: Tree, batch: FilmBatch) -> None:
        self.sampler = sampler_for(net, self.film, len(batch.prompt), batch.latent)
        if self.watch is not None:
            self.sampler.director.watch = partial(self.watch, self.sampler.director)
        self.story, self.tail, self.length = replace(batch), None, 0
        self.films += 1

    def _told(self, story: FilmBatch, piece: Piece, batch: FilmBatch) -> FilmBatch:
        """The story of one piece: the prompt in force, and verbs by their block in it."""
        first, last = (frame // self.film.chunk for frame in (piece.start, piece.stop))
        before = [block for block in story.cues if block < first]
        prompt = story.cues[max(before)].prompt if before else story.prompt
        cues = {block - first: cue for block, cue in story.cues.items() if first <= block < last}
        return replace(story, prompt=prompt, cues=cues, draws=batch.draws)

    # -- resuming -----------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Everything that decides the pieces to come but the draws, as plain tensors and numbers."""
        state: dict[str, Any] = {"length": self.length, "films": self.films}
        if self.sampler is not None and self.story is not None and self.tail is not None:
            state["sampler"] = self.sampler.snapshot()
            state["tail"] = self.tail.to("cpu", copy=True)
            state["prompts"] = {"prompt": self.story.prompt, "negative": self.story.negative}
            state["cues"] = {
                str(block): {"verb": cue.verb, "prompt": cue.prompt, "recache": cue.recache}
                for block, cue in self.story.cues.items()
            }
            state["latent"] = list(self.story.latent)
        return state

    def restore(self, state: dict[str, Any], net: Tree, batch: FilmBatch) -> None:
        """Return to a `snapshot` of a stream of the same settings. batch: any; its draws are never used."""
        self.length, self.films = state["length"], state["films"]
        if "sampler" not in state:
            return
        cues = {int(block): Cue(**cue) for block, cue in state["cues"].items()}
        channels, height, width = state["latent"]
        story = replace(batch, **state["prompts"], cues=cues, latent=(channels, height, width))
        # `_begin` counts a new film, and this one goes on.
        length, films = self.length, self.films
        self._begin(net, story)
        self.length, self.films = length, films
        assert self.sampler is not None
        with torch.no_grad():
            self.sampler.restore(state["sampler"])
        self.tail = state["tail"].to(story.prompt.device)


Made = RolloutSpec | Stream
"""Films that are made anew for every update, or one that goes on from update to update."""


def film_window(net: Tree, film: Made, batch: FilmBatch, watch: Watch = nobody) -> tuple[FilmBatch, Window]:
    """What a loss sees of such a film, and the prompts that it is judged by; a stream goes on."""
    if isinstance(film, RolloutSpec):
        return batch, roll_out(net, film, batch, watch)
    told, window = film.advance(net, batch)
    watch("window", window.latents)
    return told, window
