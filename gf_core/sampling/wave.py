"""Wave Forcing: chunks on the way move on side by side, each seeing the cleaner ones and not the noisier ones.

A move is Rolling Forcing's, in calls of one chunk each: the clean pass of the oldest, then a denoising step of each of
the others, the cleanest first. At every layer a call sees what those before it have written at that layer of the same
move, each at its own noise level. So several ranks make them at once, each with the whole network and the whole memory:
the calls go round the ranks in turn, and a chunk's keys and values to whoever makes a noisier one. Which rank made what
changes no bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..errors import GroundedError
from ..memory.store import DualMemory
from ..memory.views import View
from ..team import Team
from .director import Director, Trace
from .rolling import Rolling, UnderWay
from .sampler import Clean, OnStep
from .schedule import flow_to_x0
from .split import together

MOVES = ("tick", "commit")
"""Orders to other ranks that are a sampler's, and not its director's."""


class Wave(Rolling):
    """A sampler whose latency is its number of steps: a chunk is given when its clean pass has written it.

    Until then it is in the window, at step `len(levels)`, its latents clean.
    """

    def __init__(self, director: Director) -> None:
        """Raises as `Rolling`, and for gradients."""
        if director.learns:
            raise GroundedError(
                "gradients do not go through chunks of which each sees what cleaner ones have written (wave)",
                fix="train under rolling_forcing, whose chunks are in one call, or chunk by chunk",
            )
        super().__init__(director)
        self._written: Tensor | None = None
        """Latents that the last tick's clean pass wrote."""

    @property
    def team(self) -> Team | None:
        """The ranks that make the film together."""
        return self.director.team

    def ask(self) -> None:
        """As `Director.ask`."""
        self.director.ask()

    def _move(self, window: list[UnderWay], on_step: OnStep | None) -> Iterator[Clean]:
        last, oldest = len(self.levels), window[0]
        denoised = self.tick([way.noisy for way in window], [way.step for way in window])
        if on_step is not None:
            on_step(0, 1)
        finished = oldest.step == last
        left = [
            replace(way, noisy=clean, step=last) if way.step + 1 == last else self._next(way, clean)
            for way, clean in zip(window, denoised)
            if way.step < last
        ]
        # Nothing is refused from here on: memory and window move together.
        if finished:
            self.commit()
        self._window = left
        if finished:
            yield Clean(oldest.index, oldest.noisy)

    @together
    def tick(self, latents: Sequence[Tensor], steps: Sequence[int]) -> list[Tensor]:
        """The calls of one move over chunks [b f c h w], each at its step; it commits nothing.

        Returns what the denoising steps predict, on the first rank; what is clean is given back as it is.
        """
        director, team = self.director, self.team
        rank, ranks = (0, 1) if team is None else (team.rank, team.count)
        writes = steps[0] == len(self.levels)
        views, made = self._views([x.shape[1] for x in latents], writes), list(latents)
        # As many calls at a time as there are ranks, the cleanest first: each needs those before it only.
        for first in range(0, len(views), ranks):
            mine = first + rank
            beside = None if team is None else _Beside(team, director.memory, views, first, writes)
            if mine >= len(views):
                if beside is not None:
                    beside.only_take()
                continue
            view = views[mine] if beside is None else beside
            if steps[mine] == len(self.levels):  # the clean pass, which predicts nothing
                director.write(latents[mine], view)
                continue
            level = self.levels[steps[mine]]
            flow = director.predict(latents[mine], director.time(level.timestep), view)
            made[mine] = flow_to_x0(latents[mine], flow, level.sigma)
            if director.watch is not None:
                director.watch(Trace("denoise", steps[mine], latents[mine], flow, made[mine]))
        self._written = latents[0] if writes else None
        return made if team is None else _gathered(team, made)

    def _views(self, frames: Sequence[int], writes: bool) -> list[View]:
        """What the calls of a move see, after room was made for it."""
        director, memory = self.director, self.director.memory
        written = frames[0] if writes else 0
        # Room for the chunk that is being written too, which is committed only behind the move.
        director.prepare(written)
        clean = [memory.open(written)[1]] if writes else []
        return [*clean, *memory.open_wave(frames[len(clean) :], written)]

    @together
    def commit(self) -> None:
        """Take the chunk that the last tick's clean pass wrote into memory."""
        if self._written is not None:
            self.director.memory.commit(self._written)
            self._written = None


def _gathered(team: Team, made: list[Tensor]) -> list[Tensor]:
    """What the ranks have made, in turn, all of it on the first."""
    turns = [range(rank, len(made), team.count) for rank in range(team.count)]
    mine = () if team.first else [made[place].reshape(-1) for place in turns[team.rank]]
    flat = torch.cat([made[0].new_empty(0), *mine])  # flat: chunks may differ in frames
    theirs = [turn if rank and team.first else range(0) for rank, turn in enumerate(turns)]
    shapes = [(sum(made[place].numel() for place in turn),) for turn in theirs]
    found = team.exchange([flat, *[flat[:0]] * (team.count - 1)], shapes)
    for turn, values in zip(theirs, found):
        for place, part in zip(turn, values.split([made[place].numel() for place in turn] or 1)):
            made[place] = part.view(made[place].shape)
    return made


def takers(calls: int, ranks: int, writes: bool) -> list[set[int]]:
    """By call of a move, the ranks that need its keys and values: who makes a later one, and of a clean pass all."""
    # Calls go round the ranks, so a number's remainder is its rank.
    later = [{other % ranks for other in range(call + 1, calls)} for call in range(calls)]
    if writes:
        later[0] = set(range(ranks))
    return [needs - {call % ranks} for call, needs in enumerate(later)]


class _Beside:
    """What a call sees while other ranks make those beside it: all hand on at every layer what they have computed."""

    def __init__(self, team: Team, memory: DualMemory, views: list[View], first: int, writes: bool) -> None:
        """views: of the whole move, in which this rank makes the call `first` + its number, if there is one.

        writes: the move's first call writes the memory, which every rank has.
        """
        self._team, self._memory = team, memory
        here = slice(first, first + team.count)
        self._views, self._takers = views[here], takers(len(views), team.count, writes)[here]

    def attend(self, layer: int, q: Tensor, raw_k: Tensor, v: Tensor) -> Tensor:
        """As `View.attend`."""
        self._hand_on(layer, torch.stack((raw_k, v)))
        return self._views[self._team.rank].attend(layer, q, raw_k, v)

    def write(self, layer: int, raw_k: Tensor, v: Tensor) -> None:
        """As `View.write`."""
        self._hand_on(layer, torch.stack((raw_k, v)))
        self._views[self._team.rank].write(layer, raw_k, v)

    def only_take(self) -> None:
        """What a rank without a call does while the others have one."""
        for layer in range(len(self._memory.raw_k)):
            self._hand_on(layer, self._memory.k.new_empty(0))  # it gives nothing

    def _hand_on(self, layer: int, made: Tensor) -> None:
        """Give keys and values [2 b s h d] of this rank's call to their takers, and lay in what it takes itself."""
        if not any(self._takers):
            return
        rank, nothing = self._team.rank, [set[int]()] * self._team.count
        needs = [*self._takers, *nothing][: self._team.count]
        _, batch, _, *heads = self._memory.k.shape
        pieces = [made if other in needs[rank] else made[:0] for other in range(self._team.count)]
        shapes: list[tuple[int, ...]] = [(0,)] * self._team.count
        for call, view in enumerate(self._views):
            if rank in needs[call]:
                place = view.places[layer]
                shapes[call] = (2, batch, place.stop - place.start, *heads)
        for call, found in enumerate(self._team.exchange(pieces, shapes)):
            if found.numel():
                self._views[call].write(layer, *found.unbind(0))
