"""Objectives on clips that exist: the network sees the true past, or what it has noised of it, and learns every chunk.

The past is written by the engine's clean pass into the engine's memory, with gradients, chunk after chunk. That is the
masked forward over a doubled sequence of other code bases, at the cost of what is not masked and under any
memory's rules.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...model.layers import Tree
from ...sampling.film import carry_out
from ...sampling.schedule import Schedule, add_noise, flow_to_x0, timesteps
from ..films import ClipsGiven, FilmBatch
from ..rollout import RolloutSpec, Watch, nobody, sampler_for
from . import Loss
from .scores import Nets, sigma_at


@dataclass(frozen=True)
class Forcing:
    """Teacher forcing; the defaults are Causal Forcing's (arXiv 2602.02214)."""

    weighted: bool = True
    """Mid noise counts most (`Schedule.loss_weights`)."""
    augment: int = 0
    """Of the table's 1000 levels, noisiest first, how many the past may be seen at; 0: it is clean."""


@dataclass(frozen=True)
class Consistency:
    """Causal consistency distillation; the defaults are Causal Forcing's."""

    steps: int = 48
    """Noise levels between which the teacher makes one step."""
    guidance: float = 3.0
    """g of u + g (c - u), the usual form."""
    shift: float = 5.0
    """Time shift of these levels, whatever the student's is."""


def forced_flow(
    net: Tree,
    film: RolloutSpec,
    batch: ClipsGiven | FilmBatch,
    noisy: Tensor,
    times: Tensor,
    context: Tensor | None,
    context_times: Tensor | None = None,
) -> Tensor:
    """Flow [b f c h w] of every chunk of noisy latents at timesteps [b f], as the engine's memory lets it see the past.

    The batch's prompt and cues act on text and memory as in films.

    context: clean latents [b f c h w] that enter memory in place of the noisy ones. None: what has been predicted
    enters as it is, at its own level. context_times: timesteps [b f] of the context; None is the context timestep
    of films.
    """
    # A clean pass that keeps its graph: the past is learned as well.
    sampler = sampler_for(net, replace(film, context_gradient="replay"), len(noisy), tuple(noisy.shape[2:]))
    director, flows = sampler.director, list[Tensor]()
    noisy = noisy.to(director.device, director.dtype)
    context = None if context is None else context.to(noisy)
    director.start(batch.prompt)
    for first in range(0, noisy.shape[1], film.chunk):
        here = slice(first, first + film.chunk)
        if (cue := batch.cues.get(first // film.chunk)) is not None:
            carry_out(director, cue.verb, cue.prompt, cue.recache)
        director.prepare()
        step, clean = director.open(noisy[:, here].shape[1])
        time = director.times(times[:, here])
        # Without a context this very call writes memory, as the clean pass does else.
        flows.append(director.predict(noisy[:, here], time, clean if context is None else step))
        if context is None:
            director.memory.commit(noisy[:, here])
        elif here.stop < noisy.shape[1]:  # nobody looks back at the last
            time = None if context_times is None else director.times(context_times[:, here])
            director.remember(context[:, here], clean, time)
    return torch.cat(flows, 1)


def by_chunk(places: Tensor, chunk: int) -> Tensor:
    """Places [b f] with those of each chunk's first frame for all its frames."""
    return places[:, ::chunk].repeat_interleave(chunk, 1)[:, : places.shape[1]]  # the last chunk may be short


def _places(batch: ClipsGiven, film: RolloutSpec, high: int, name: str = "place") -> Tensor:
    places = batch.draws.places(name, tuple(batch.latents.shape[:2]), high)
    return by_chunk(places, film.chunk)


def forcing(
    nets: Nets, batch: ClipsGiven, film: RolloutSpec, settings: Forcing, watch: Watch = nobody
) -> Loss:
    """Flow matching by teacher forcing: each chunk at its own level, the chunks before it clean."""
    clean, table = batch.latents, Schedule(film.recipe.sample.shift)
    # The table of levels lies on the processor.
    places = _places(batch, film, len(table.timesteps)).cpu()
    times = table.timesteps[places].to(clean.device)
    noise = batch.draws.normal("noise", tuple(clean.shape)).to(clean)
    sigma = sigma_at(times, film.recipe.sample.shift)  # b f 1 1 1
    noisy = add_noise(clean, noise, sigma)
    context, context_times = clean, None
    if settings.augment:
        places_before = _places(batch, film, settings.augment, "context_place").cpu()
        context_times = table.timesteps[places_before].to(clean.device)
        # The chunk's own noise, at a level of its own.
        context = add_noise(clean, noise, sigma_at(context_times, film.recipe.sample.shift))
    flow = forced_flow(nets.generator, film, batch, noisy, times, context, context_times)
    error = (flow.float() - (noise - clean).float()).square().mean((2, 3, 4))  # b f
    if settings.weighted:
        error = error * table.loss_weights()[places].to(error)
    total = error.mean()
    shown = {"timestep": times, "noisy": noisy, "clean_context": context, "flow": flow, "loss": total}
    for name, value in (shown | {"x0": flow_to_x0(noisy, flow, sigma)}).items():
        watch(name, value)
    return Loss(total, {"forcing": total.detach()})


def regression(
    nets: Nets, batch: ClipsGiven, film: RolloutSpec, *, see_clean: bool = True, watch: Watch = nobody
) -> Loss:
    """Where a teacher's solver ends, learned from where it was at one of the student's levels (CausVid, 2412.07772).

    see_clean: chunks see `batch.latents` before them, all at one level; else each other's noisy states, at a level
    each.
    """
    assert batch.states is not None
    levels = timesteps(film.recipe.sample)
    told = torch.tensor([level.timestep for level in levels], device=batch.states.device)
    if see_clean:
        shape = (*batch.latents.shape[:1], 1)
        places = batch.draws.places("place", shape, len(levels)).expand(batch.latents.shape[:2])  # b f
    else:
        places = _places(batch, film, len(levels))
    places = places.to(told.device)
    which = places[:, None, :, None, None, None].expand(-1, 1, -1, *batch.states.shape[3:])  # b 1 f c h w
    noisy, end = batch.states.gather(1, which)[:, 0], batch.states[:, -1]  # b f c h w each
    times, context = told[places], batch.latents if see_clean else None
    flow = forced_flow(nets.generator, film, batch, noisy, times, context)
    clean = flow_to_x0(noisy, flow, sigma_at(times, film.recipe.sample.shift))
    learned = times != 0  # at no noise there is nothing to learn
    total = (clean - end)[learned].square().mean()
    shown = {"timestep": times, "noisy": noisy, "flow": flow, "x0": clean, "loss": total}
    for name, value in (shown | ({"clean_context": batch.latents} if see_clean else {})).items():
        watch(name, value)
    return Loss(total, {"regression": total.detach()})


def consistency(
    nets: Nets, batch: ClipsGiven, film: RolloutSpec, settings: Consistency, watch: Watch = nobody
) -> Loss:
    """The student says of a state what its running mean says of the state one step of the guided teacher on."""
    assert batch.negative is not None
    clean, shift = batch.latents, film.recipe.sample.shift
    grid = Schedule(settings.shift, settings.steps)
    place = batch.draws.whole("consistency", 0, settings.steps - 1)
    # A step of the grid, from `here` down to `there`; both hold for all frames of all clips.
    here, there = (
        time.expand(clean.shape[:2]).to(clean.device) for time in grid.timesteps[place : place + 2]
    )
    noise = batch.draws.normal("noise", tuple(clean.shape)).to(clean)
    noisy = add_noise(clean, noise, grid.sigmas[place].to(clean.device))

    def ask(net: Tree, latents: Tensor, times: Tensor, batch: ClipsGiven = batch) -> tuple[Tensor, Tensor]:
        """Flow and clean latents."""
        flow = forced_flow(net, film, batch, latents, times, clean)
        # Looked up in the student's table, though the grid has a shift of its own.
        return flow, flow_to_x0(latents, flow, sigma_at(times, shift))

    # Verbs act on the memory of both sides alike; the prompts that they bring in are one side's only.
    others = {chunk: replace(cue, prompt=batch.negative) for chunk, cue in batch.cues.items()}
    unconditional = replace(batch, prompt=batch.negative, cues=others)
    with torch.no_grad():
        told, free = (ask(nets.real, noisy, here, given)[0] for given in (batch, unconditional))
        guided = free + settings.guidance * (told - free)
        # An Euler step; the levels fall, so their difference is negative.
        later = noisy + guided * (grid.sigmas[place + 1] - grid.sigmas[place])
        target = ask(nets.average, later, there)[1]
    student = ask(nets.generator, noisy, here)[1]
    total = (student - target).square().mean()
    shown = {"noisy": noisy, "teacher_cond_flow": told, "teacher_uncond_flow": free, "next_state": later}
    shown |= {"ema_x0": target, "student_x0": student, "t": grid.timesteps[place : place + 2], "loss": total}
    for name, value in shown.items():
        watch(name, value)
    return Loss(total, {"consistency": total.detach()})
