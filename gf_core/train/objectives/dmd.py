"""Self Forcing: the student's own films, matched in distribution to a teacher's (arXiv 2506.08009).

`dmd` and `sid` teach the student, `critic` the fake score that both need. All make a film with the engine's sampler.
"""

from __future__ import annotations

import torch

from ..films import FilmBatch
from ..rollout import RolloutSpec, Watch, Window, nobody, roll_out
from . import Loss
from .scores import (
    Matching,
    Nets,
    both_scores,
    flow_of,
    judged,
    kept,
    matching_gradient,
    noised,
    scale_of,
    sigma_at,
    watched,
)


def dmd(nets: Nets, batch: FilmBatch, film: RolloutSpec, match: Matching, watch: Watch = nobody) -> Loss:
    """Distribution matching distillation of the student on a film of its own."""
    return match_window(nets, batch, roll_out(nets.generator, film, batch, watch), match, watch)


def match_window(
    nets: Nets, batch: FilmBatch, window: Window, match: Matching, watch: Watch = nobody
) -> Loss:
    """DMD's loss of a window that was made."""
    clip = window.latents
    seen = watched(noised(clip.detach(), batch.draws, match), watch)
    gradient = matching_gradient(nets, clip.detach(), seen, batch.told, batch.negative, match, watch)
    total = judged(clip, gradient, window.learned)
    watch("loss", total)
    return Loss(total, {"dmd": total.detach(), "dmd_gradient": gradient.abs().mean()})


def sid(nets: Nets, batch: FilmBatch, film: RolloutSpec, match: Matching, watch: Watch = nobody) -> Loss:
    """Score identity distillation: as `dmd`, with the gradient through both score networks.

    Their weights get none, and their graphs are gone when this returns.
    """
    window = roll_out(nets.generator, film, batch, watch)
    clip = window.latents.detach().requires_grad_(torch.is_grad_enabled())
    seen = watched(noised(clip, batch.draws, match), watch)
    fake, real = both_scores(nets, seen, batch.told, batch.negative, match, watch)
    gap, away = (real - fake).double(), (real - clip).double()
    loss = gap * (away - match.alpha * gap) / scale_of(clip, real).detach()
    total = torch.nan_to_num(loss).mean()
    watch("loss", total)
    if clip.requires_grad:
        (gradient,) = torch.autograd.grad(total, clip)
        total = total.detach() + ((window.latents - clip.detach()) * gradient).sum()
    return Loss(total, {"sid": total.detach()})


def critic(nets: Nets, batch: FilmBatch, film: RolloutSpec, match: Matching, watch: Watch = nobody) -> Loss:
    """Flow matching of the fake score on a film of the student's."""
    with torch.no_grad():
        window = roll_out(nets.generator, film, batch, watch)
    return learn_window(nets, batch, Window(window.latents, None), match, watch)


def learn_window(
    nets: Nets, batch: FilmBatch, window: Window, match: Matching, watch: Watch = nobody
) -> Loss:
    """The critic's loss of a window that was made.

    The published code turns the prediction into clean latents by one table and back by another, so that its flow is
    scaled by their ratio, 19 % at timestep 20.
    """
    seen = watched(noised(window.latents, batch.draws, match), watch)
    flow = flow_of(nets.fake, seen.latents, seen.timestep, batch.told)
    own, ours = (sigma_at(seen.timestep, shift) for shift in (match.score_shift, match.shift))
    watch("score.fake_cond_x0", seen.latents - own * flow)
    flow = flow * (own / ours)
    error = kept(flow - (seen.noise - window.latents), window.learned)
    total = error.square().mean()
    watch("loss", total)
    return Loss(total, {"critic": total.detach()})
