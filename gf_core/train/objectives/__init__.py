"""What is learned: an objective takes a batch and gives a loss.

`flow` is flow matching under the engine's memory, `distil` a few-step student of a guided teacher; recipes have more.

Those of papers are plain functions of networks and a batch, with their settings beside them, so that a recipe is
values:

    nets = Nets(generator, fake, real)                      scores: Wan-shaped trees, each with its `spec`
    batch = FilmBatch(prompt, negative, latent, draws)      films: prompts, verbs, and all that is drawn
    film = RolloutSpec(recipe, frames=21, window=21)        rollout: memory and sampler of the engine, gradients
    match = Matching(guidance=3.0)                          scores: how teacher and critic are asked
    loss = dmd(nets, batch, film, match)                    or sid; gradients in nets.generator only
    loss = critic(nets, batch, film, match)                 gradients in nets.fake only
    stream = Stream(film)                                   streaming: a film that goes on from call to call
    loss = dmd(nets, batch, stream, match)                  or sid, critic
    clips = ClipsGiven(prompt, latents, draws)              films: clips that exist
    loss = forcing(nets, clips, film, Forcing())            forced: or regression, consistency

`Loss.total` is to be differentiated once, `Loss.parts` to be logged. An objective for the loop is a `partial` of one:
`partial(dmd, nets, film=film, match=match)`. `draws.SampleDraws` draws: what decides how many calls are made (exit
step, length) is alike on all ranks, all else belongs to a sample. Films are made by `rollout.roll_out`, the engine's
sampler with gradients; an objective has no loop of its own over chunks or steps.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """One value of an objective."""

    total: Tensor
    """What is differentiated."""
    parts: dict[str, Tensor]
    """What is logged: detached numbers on the device, so that no step waits for them."""


Objective = Callable[[Any], Loss]
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Precision:
    """Where a run computes and in which type."""

    device: torch.device = CPU
    dtype: torch.dtype = torch.bfloat16

    def autocast(self) -> contextlib.AbstractContextManager:
        """Products in `dtype`; statistics and losses belong outside."""
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)
