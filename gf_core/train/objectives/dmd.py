"""Self Forcing: the student's own films, matched in distribution to a teacher's (arXiv 2506.08009).

`dmd` and `sid` teach the student, `critic` the fake score that both need. All make a film with the engine's
sampler, anew or, of a `Stream`, the next piece of one that goes on (LongLive, 2509.22622). Where the window begins
with a context, teacher and critic judge what follows it: contextual DMD (Context Forcing, 2602.06028).
"""

from __future__ import annotations

from dataclasses import replace

import torch

from ..films import FilmBatch
from ..rollout import RolloutSpec, Watch, Window, nobody
from ..streaming import Made, film_window
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
    weight_at,
)


def dmd(nets: Nets, batch: FilmBatch, film: Made, match: Matching, watch: Watch = nobody) -> Loss:
    """Distribution matching distillation of the student on a film of its own."""
    return match_window(nets, *film_window(nets.generator, film, batch, watch), match, watch)


def match_window(
    nets: Nets, batch: FilmBatch, window: Window, match: Matching, watch: Watch = nobody
) -> Loss:
    """DMD's loss of a window that was made."""
    with torch.no_grad():
        seen = watched(noised(window, batch.draws, match), watch)
    # With its graph, unlike what the score networks are shown: by it the gradient reaches the student.
    clip = seen.behind(window.latents)
    gradient = matching_gradient(nets, clip.detach(), seen, batch.told, batch.negative, match, watch)
    total = judged(clip, gradient, window.judged)
    watch("loss", total)
    return Loss(total, {"dmd": total.detach(), "dmd_gradient": gradient.abs().mean()})


def sid(nets: Nets, batch: FilmBatch, film: Made, match: Matching, watch: Watch = nobody) -> Loss:
    """Score identity distillation: as `dmd`, with the gradient through both score networks.

    Their weights get none, and their graphs are gone when this returns. Every frame of the window counts.
    """
    batch, window = film_window(nets.generator, film, batch, watch)
    # A leaf: the graph through the score networks ends here, and is freed before the student's is walked.
    clip = window.latents.detach().requires_grad_(torch.is_grad_enabled())
    seen = watched(noised(replace(window, latents=clip), batch.draws, match), watch)
    fake, real = map(seen.behind, both_scores(nets, seen, batch.told, batch.negative, match, watch))
    judged_clip = seen.behind(clip)
    gap, away = (real - fake).double(), (real - judged_clip).double()  # b f c h w each, float64
    # Self Forcing's form of SiD: gap and away are differentiated, their unit is not.
    loss = gap * (away - match.alpha * gap) / scale_of(judged_clip, real).detach()
    total = torch.nan_to_num(loss).mean()
    watch("loss", total)
    if clip.requires_grad:
        (gradient,) = torch.autograd.grad(total, clip)
        # Adds nothing to the value; on the way back the student gets the gradient found on the leaf.
        total = total.detach() + ((window.latents - clip.detach()) * gradient).sum()
    return Loss(total, {"sid": total.detach()})


def critic(nets: Nets, batch: FilmBatch, film: Made, match: Matching, watch: Watch = nobody) -> Loss:
    """Flow matching of the fake score on a film of the student's; of a piece the new frames alone count."""
    with torch.no_grad():
        batch, window = film_window(nets.generator, film, batch, watch)
    # Of a film made anew the mask is the student's: the critic learns from all that is judged.
    window = replace(window, learned=None) if isinstance(film, RolloutSpec) else window
    return learn_window(nets, batch, window, match, watch)


def learn_window(
    nets: Nets, batch: FilmBatch, window: Window, match: Matching, watch: Watch = nobody, name: str = "score"
) -> Loss:
    """The critic's loss of a window that was made, behind its context.

    The published code turns the prediction into clean latents by one table and back by another, so that its flow is
    scaled by their ratio, 19 % at timestep 20. name: of the draws.
    """
    seen = watched(noised(window, batch.draws, match, name), watch)
    flow = flow_of(nets.fake, seen.latents, seen.told(match), batch.told)
    watch("flow", flow)
    own, ours = (sigma_at(seen.timestep, shift) for shift in (match.score_shift, match.shift))
    watch("score.fake_cond_x0", seen.latents - own * flow)
    if not match.critic_weighted:
        flow = flow * (own / ours)
    error = kept(seen.behind(flow) - (seen.noise - seen.behind(window.latents)), window.judged).square()
    if match.critic_weighted:
        error = error * weight_at(seen.timestep, match.shift)
    total = error.mean()
    watch("loss", total)
    return Loss(total, {"critic": total.detach()})
