"""The few-step loop of a distilled causal model (Self Forcing): predict x0, add noise of the next level, repeat.

One chunk at a time: room is made in memory, the chunk is denoised, the clean pass writes it, and it is committed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from ..config import ModelSpec, Recipe
from ..model.layers import Tree
from ..model.placement import Placement
from .director import Director, Trace
from .rolling import Rolling
from .sampler import Chunk, Clean, OnStep, Sampler
from .schedule import Schedule, add_noise, flow_to_x0, timesteps
from .wave import Wave


class Chunkwise(Sampler):
    """A sampler without latency; a film's or scene's first chunk may have a step list of its own."""

    def __init__(self, director: Director) -> None:
        super().__init__(director)
        sample = director.sample
        self.first_levels = timesteps(replace(sample, steps=sample.first))
        self._context_sigma = Schedule(sample.shift).sigma(torch.tensor(sample.context_timestep)).item()

    def feed(self, chunk: Chunk, on_step: OnStep | None = None) -> Iterator[Clean]:
        """Make one chunk and commit it.

        Until it is given nothing has been committed, and the same call gives the same chunk, unless a switch of prompts
        was under way, which may have changed part of the memory.
        """
        director, first = self.director, chunk.noise(0)
        director.prepare()
        # Behind nothing at all: a film's or scene's first chunk may have steps of its own.
        levels = self.levels if director.memory.layout.past else self.first_levels
        if chunk.exit is not None:
            levels = levels[: chunk.exit + 1]
        frames = first.shape[1]
        # All of it before the first call: a copy between two calls would wait for the card.
        noises = director.bring(first, *map(chunk.noise, range(1, len(levels))))
        blind, instead = director.open_blind(frames)
        step, clean = director.open(frames)
        x = denoised = noises[0]  # b f c h w
        for i, level in enumerate(levels):
            if i:
                x = add_noise(denoised, noises[i], level.sigma)
            with torch.set_grad_enabled(torch.is_grad_enabled() and chunk.exit in (None, i)):
                view = step if instead is None or i >= blind else instead  # blind right behind a cut
                flow = director.predict(x, director.time(level.timestep), view)
                denoised = flow_to_x0(x, flow, level.sigma)
            if director.watch is not None:
                director.watch(Trace("denoise", i, x, flow, denoised))
            if on_step is not None:
                on_step(i, len(levels))
        written = chunk.context_noise
        if written is not None:
            written = add_noise(denoised.detach(), written.to(x.device, x.dtype), self._context_sigma)
        director.remember(denoised, clean, written=written)
        yield Clean(chunk.index, denoised)


def make_sampler(
    model: Tree, spec: ModelSpec, recipe: Recipe, *, one_by_one: bool = False, **placed: Any
) -> Sampler:
    """A sampler of one film with a director of its own; `placed` are fields of `model.placement.Placement`.

    one_by_one: chunk by chunk under a memory for chunks that are denoised together, too (training)."""
    director = Director(model, spec, recipe, Placement(**placed))
    if recipe.memory.rolling is None or one_by_one:
        return Chunkwise(director)
    return (Wave if recipe.memory.wave else Rolling)(director)
