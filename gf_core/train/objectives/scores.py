"""What the two score networks say of a clip: noise it, ask for the clean latents, compare (DMD, arXiv 2311.18828).

The published code looks the noise level of a score network's answer up in a table of its own (`score_shift`): the
wrapper of Self Forcing leaves it at 8 whatever the generator's shift is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...model.bidirectional import bidirectional_flow
from ...model.layers import Tree
from ...sampling.schedule import TABLE, Schedule, add_noise, flow_to_x0
from ..films import Draws
from ..rollout import Watch, Window


@dataclass(frozen=True)
class Nets:
    """The networks of one training; each is a Wan-shaped tree with its `spec`."""

    generator: Tree
    """The causal student, which makes films."""
    fake: Tree = None
    """The critic: bidirectional, learns what the student's films look like."""
    real: Tree = None
    """The teacher: bidirectional, frozen."""
    average: Tree = None
    """The running mean of the student, frozen (consistency distillation)."""


@dataclass(frozen=True)
class Matching:
    """How teacher and critic are asked; the defaults are Self Forcing's."""

    guidance: float = 3.0
    """g of the teacher's c + g (c - u), which is 4 in the usual u + g (c - u)."""
    fake_guidance: float = 0.0
    """The same g of the critic (CausVid's code has it; all published recipes leave it at 0)."""
    shift: float = 5.0
    """Time shift of the noise levels that clips are judged at."""
    score_shift: float = 8.0
    """Time shift of the table in which a score network's level is looked up."""
    lowest: float = 20.0
    """Least timestep that clips are judged at, and the largest:"""
    highest: float = 980.0
    alpha: float = 1.0
    """SiD: share of the squared difference that is taken off."""
    clean_context: bool = False
    """A context is told the level that it has, none; else the window's, as in the published code."""
    critic_weighted: bool = False
    """The critic's loss counts mid noise most, and its flow is taken as it is (Context Forcing); else the flow goes
    through both tables (Self Forcing)."""


@dataclass(frozen=True)
class Noised:
    """A clip under noise, but for the context that it may begin with."""

    latents: Tensor
    """[b f c h w]"""
    timestep: Tensor
    """[b 1]"""
    noise: Tensor
    """[b f c h w] of the frames behind the context."""
    context: int = 0
    """Oldest frames, which are clean."""

    def told(self, match: Matching) -> Tensor:
        """The timesteps [b 1] or [b f] that score networks are told."""
        if not (self.context and match.clean_context):
            return self.timestep
        level = self.timestep.repeat(1, self.latents.shape[1])  # b f
        level[:, : self.context] = 0
        return level

    def behind(self, clip: Tensor) -> Tensor:
        """The frames of a clip [b f c h w] that are under noise."""
        return clip[:, self.context :]


def level(places: Tensor, match: Matching) -> Tensor:
    """Timesteps [b 1] of places [b] 0..999 in the table, shifted and kept in the range; float32 as the reference."""
    share = places.float() / TABLE
    shifted = match.shift * share / (1 + (match.shift - 1) * share) * TABLE
    return shifted.clamp(match.lowest, match.highest)[:, None]


def sigma_at(timestep: Tensor, shift: float) -> Tensor:
    """Noise level [b f 1 1 1] of timesteps [b f], that of the nearest entry of the table."""
    return Schedule(shift).sigma(timestep.cpu()).to(timestep.device)[..., None, None, None]


def weight_at(timestep: Tensor, shift: float) -> Tensor:
    """Weight in flow matching [b f 1 1 1] of timesteps [b f]."""
    schedule = Schedule(shift)
    weights = schedule.loss_weights()[schedule.index(timestep.cpu())]  # b f
    return weights.to(timestep.device)[..., None, None, None]


def noised(window: Window, draws: Draws, match: Matching, name: str = "score") -> Noised:
    """What a loss sees of a film at a level drawn for each sample, its context as it is."""
    context, clip = window.latents[:, : window.context].detach(), window.latents[:, window.context :]
    timestep = level(draws.places(f"{name}.place", (len(clip),)).to(clip.device), match)  # b 1
    noise = draws.normal(f"{name}.noise", tuple(clip.shape)).to(clip)
    noisy = add_noise(clip, noise, sigma_at(timestep, match.shift))
    return Noised(torch.cat([context, noisy], 1), timestep, noise, window.context)


def flow_of(net: Tree, noisy: Tensor, timestep: Tensor, prompt: Tensor) -> Tensor:
    """Flow [b f c h w] that a score network predicts for a whole clip, in the clip's type."""
    own = noisy.to(net.computes_in or net.blocks[0].self_attn.q.weight.dtype)
    return bidirectional_flow(net, net.spec, own, timestep, prompt.to(own)).to(noisy.dtype)


def clean_of(net: Tree, clip: Noised, prompt: Tensor, match: Matching) -> Tensor:
    """Clean latents [b f c h w] that a score network sees in a noised clip; a context is what it is."""
    flow = flow_of(net, clip.latents, clip.told(match), prompt)
    sigma = sigma_at(clip.timestep, match.score_shift)
    clean = flow_to_x0(clip.behind(clip.latents), clip.behind(flow), sigma)
    return torch.cat([clip.latents[:, : clip.context], clean], 1) if clip.context else clean


def both_scores(
    nets: Nets, clip: Noised, prompt: Tensor, negative: Tensor, match: Matching, watch: Watch
) -> tuple[Tensor, Tensor]:
    """Clean latents [b f c h w] that the critic sees, and those of the guided teacher."""
    fake = clean_of(nets.fake, clip, prompt, match)
    told, free = (clean_of(nets.real, clip, text, match) for text in (prompt, negative))
    for name, value in (("fake_cond_x0", fake), ("real_cond_x0", told), ("real_uncond_x0", free)):
        watch(f"score.{name}", value)
    if match.fake_guidance:
        fake = fake + match.fake_guidance * (fake - clean_of(nets.fake, clip, negative, match))
    return fake, told + match.guidance * (told - free)


def scale_of(clip: Tensor, real: Tensor) -> Tensor:
    """Mean distance [b 1 1 1 1] of a clip from what the teacher sees, the unit of its gradient."""
    return (clip - real).abs().mean((1, 2, 3, 4), keepdim=True)


def watched(clip: Noised, watch: Watch) -> Noised:
    """The clip, after it has been shown."""
    watch("score.noisy", clip.latents)
    watch("score.timestep", clip.timestep.expand(-1, clip.latents.shape[1]))
    return clip


def kept(values: Tensor, learned: Tensor | None) -> Tensor:
    """The frames of values [b f c h w] that count in a loss."""
    return values if learned is None else values[:, learned]


def judged(clip: Tensor, gradient: Tensor, learned: Tensor | None) -> Tensor:
    """A loss whose gradient on a clip [b f c h w] is `gradient` over the number of values that count; float64."""
    x = clip.double()
    # The derivative of half a square is x less target: the gradient asked for.
    target = (x - gradient.double()).detach()
    return 0.5 * (kept(x, learned) - kept(target, learned)).square().mean()


def matching_gradient(
    nets: Nets, clip: Tensor, seen: Noised, prompt: Tensor, negative: Tensor, match: Matching, watch: Watch
) -> Tensor:
    """DMD's gradient [b f c h w] on a clip behind its context, normalised: where critic and teacher part
    (2311.18828)."""
    with torch.no_grad():
        fake, real = map(seen.behind, both_scores(nets, seen, prompt, negative, match, watch))
        gradient = torch.nan_to_num((fake - real) / scale_of(clip, real))
    watch("dmd_grad", gradient)
    return gradient
