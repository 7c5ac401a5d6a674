"""Replay of training steps: the objectives on recorded weights and draws, loss by loss and gradient by gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dev.parity.case import Case, Refusal
from dev.parity.replay import Kinds
from gf_core.config import ContextGradient, MemorySpec, Recipe, SampleSpec
from gf_core.model.wan import WanModel
from gf_core.train.films import FilmBatch
from gf_core.train.objectives.dmd import critic, dmd, sid
from gf_core.train.objectives.scores import Matching, Nets
from gf_core.train.rollout import RolloutSpec, Watch


class Recorded:
    """The draws of a case: noise by the names it has there, whole numbers from the JSON."""

    def __init__(self, case: Case, wholes: dict[str, int], places: dict[str, Any], prefix: str = "") -> None:
        self.case, self.wholes, self.prefix = case, wholes, prefix
        self._places = places

    def whole(self, name: str, low: int, high: int) -> int:
        """As `Draws.whole`."""
        value = self.wholes[name]
        if not low <= value < high:
            raise Refusal(f"{name} {value} is not in [{low}, {high})")
        return value

    def places(self, name: str, count: int) -> Tensor:
        """As `Draws.places`."""
        return torch.tensor(self._places[name]).flatten().expand(count)

    def normal(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """As `Draws.normal`."""
        return self.case.inputs[self.prefix + name].reshape(shape)


def net_of(case: Case, name: str) -> WanModel:
    """One of the recorded networks, with every weight learnable."""
    own = f"{name}."
    return case.model({n.removeprefix(own): w for n, w in case.weights.items() if n.startswith(own)})


def give_gradients(case: Case, net: WanModel, name: str) -> None:
    """Give the gradients of every weight and clear them."""
    for key, parameter in net.named_parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        case.give(f"{name}grad.{key}", gradient)
        parameter.grad = None


def memory_of(case: Case) -> MemorySpec:
    """The memory that a recorded generator was trained with."""
    train, model = case.doc["train"], case.doc["model"]
    chunk, sink = train["frames_per_block"], model["sink_size"]
    window = model["local_attn_size"]
    recent = train["frames"] - chunk if window < 0 else window - chunk
    return MemorySpec(
        anchors=sink, recent=recent, chunk=chunk, anchor_policy="frozen" if sink else "none",
        anchor_update="never", anchor_index="slot", switch="cross_only", positions="absolute", max_position=None,
    )  # fmt: skip


def film_of(case: Case, context: ContextGradient) -> RolloutSpec:
    """How the recorded rollout was made."""
    train = case.doc["train"]
    sample = SampleSpec(
        steps=tuple(train["denoising_step_list"]), warp=train["warp"], shift=train["shift"],
        context_timestep=float(train["context_noise"]),
    )  # fmt: skip
    return RolloutSpec(
        Recipe(memory_of(case), sample), frames=train["frames"], window=train["window_frames"],
        context_gradient=context, first_frame=stub if case.doc.get("vae_stub") else None,
    )  # fmt: skip


def stub(latents: Tensor) -> Tensor:
    """What stands for decoding and encoding again where no autoencoder was recorded."""
    return 0.8 * latents[:, -1:] + 0.05


def match_of(case: Case) -> Matching:
    """How the recorded score networks were asked."""
    train = case.doc["train"]
    low, high = train["clamp"]
    return Matching(
        guidance=train.get("guidance_scale_upstream_form", 0.0), shift=train["shift"],
        score_shift=train["score_net_sigma_table_shift"], lowest=low, highest=high,
        alpha=train.get("sid_alpha", 1.0),
    )  # fmt: skip


def films(case: Case) -> FilmBatch:
    """The recorded prompts and draws."""
    train, inputs = case.doc["train"], case.inputs
    wholes = {"exit": train["exit_step"], "chunks": train["frames"] // train["frames_per_block"]}
    draws = Recorded(case, wholes, {"score.place": train["score_t_index"]})
    _, _, *latent = inputs["noise"].shape
    return FilmBatch(inputs["cond_embeds"], inputs["uncond_embeds"], tuple(latent), draws)


def named(case: Case, prefix: str = "") -> Watch:
    """A watcher that gives what it is told, losses as one number."""

    def watch(name: str, value: Tensor) -> None:
        case.give(prefix + name, value.reshape(1) if name.endswith("loss") else value)

    return watch


def replay_generator(case: Case) -> None:
    """DMD or SiD: past detached and leaky, the score networks by the published table and by one table."""
    loss = sid if "sid_alpha" in case.doc["train"] else dmd
    nets = Nets(*(net_of(case, name) for name in ("generator", "fake", "real")))
    nets.generator.requires_grad_(True)
    batch, match = films(case), match_of(case)
    one_table = replace(match, score_shift=match.shift)
    for variant, context, asked in (
        ("detached", "none", match), ("leaky", "leaky", match), ("detached_s5", "none", one_table)
    ):  # fmt: skip
        watch = named(case, "" if variant == "detached" else f"{variant}.")
        result = loss(nets, batch, film_of(case, context), asked, watch)
        result.total.backward()
        give_gradients(case, nets.generator, f"{variant}.")
    frames = case.doc["train"]["window_frames"]
    first = case.doc["train"]["frames_per_block"] if case.doc["train"]["frames"] > frames else 0
    case.give("gradient_mask_frames", (torch.arange(frames) >= first).float())


def replay_critic(case: Case) -> None:
    """The fake score, by the published tables and by one."""
    nets = Nets(net_of(case, "generator"), net_of(case, "fake"))
    nets.fake.requires_grad_(True)
    match = match_of(case)
    for variant, prefix, asked in (
        ("published.", "", match), ("s5.", "s5.", replace(match, score_shift=match.shift))
    ):  # fmt: skip
        result = critic(nets, films(case), film_of(case, "none"), asked, named(case, prefix))
        result.total.backward()
        give_gradients(case, nets.fake, variant)


def says(*words: str) -> Callable[[Case], bool]:
    """Whether a training case says one of these words of itself or of what it was recorded from."""

    def serves(case: Case) -> bool:
        upstream = case.doc.get("upstream") or {}
        said = f"{case.doc.get('what', '')} {upstream.get('entry', '')} {upstream.get('repo', '')}"
        return "train" in case.doc and any(word in said for word in words)

    return serves


KINDS: Kinds = (
    (says("critic_loss"), replay_critic),
    (says("DMD.generator_loss", "SiD.generator_loss"), replay_generator),
)
