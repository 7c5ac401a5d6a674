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
from gf_core.sampling.director import Trace
from gf_core.sampling.schedule import TABLE, flow_to_x0, timesteps
from gf_core.train.films import ClipsGiven, FilmBatch
from gf_core.train.objectives.dmd import critic, dmd, learn_window, match_window, sid
from gf_core.train.objectives.forced import (
    Consistency,
    Forcing,
    consistency,
    forced_flow,
    forcing,
    regression,
)
from gf_core.train.objectives.scores import Matching, Nets
from gf_core.train.rollout import RolloutSpec, Watch, Window, make_chunks, sampler_for


class Recorded:
    """The draws of a case: noise by the names it has there, whole numbers from the JSON."""

    def __init__(self, case: Case, wholes: dict[str, Any], places: dict[str, Any], prefix: str = "") -> None:
        self.case, self.wholes, self.prefix = case, wholes, prefix
        self.apart: dict[str, str] = {}
        """Noise that the case names otherwise, without the prefix."""
        self._places = places

    def whole(self, name: str, low: int, high: int) -> int:
        """As `Draws.whole`."""
        value = self.wholes[name]
        value = value[0] if isinstance(value, list) else value
        if not low <= value < high:
            raise Refusal(f"{name} {value} is not in [{low}, {high})")
        return value

    def places(self, name: str, shape: tuple[int, ...], high: int = TABLE) -> Tensor:
        """As `Draws.places`."""
        value = torch.tensor(self._places[name])
        if value.ndim and value.ndim < len(shape):
            value = value[:, None]  # one for each sample
        return (value[..., : shape[-1]] if value.ndim else value).expand(shape)

    def normal(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """As `Draws.normal`."""
        name = self.apart.get(name, self.prefix + name)
        return self.case.inputs[name][:, -shape[1] :].reshape(shape)  # of a context nothing is used


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
    chunk, window, sink = train["frames_per_block"], model["local_attn_size"], model["sink_size"]
    inside = sink if train.get("window_counts_sink") else 0
    if not inside and not says(*SGF)(case):
        sink = 0  # the buffer holds the whole film: nothing is kept when its window moves on
    recent = train.get("frames", 0) - chunk if window < 0 else window - chunk - inside
    return MemorySpec(
        anchors=sink, recent=recent, chunk=chunk, anchor_policy="frozen" if sink else "none",
        anchor_update="never", anchor_index="slot", switch="cross_only", positions="absolute", max_position=None,
    )  # fmt: skip


def film_of(case: Case, context: ContextGradient) -> RolloutSpec:
    """How the recorded rollout was made."""
    train = case.doc["train"]
    sample = SampleSpec(
        steps=tuple(train.get("denoising_step_list", SampleSpec.steps)), warp=train.get("warp", True),
        shift=train["shift"], context_timestep=float(train["context_noise"]),
    )  # fmt: skip
    return RolloutSpec(
        Recipe(memory_of(case), sample), frames=train.get("frames", 21), window=train.get("window_frames", 21),
        context_gradient=context, one_exit=train.get("same_step_across_blocks", True), first_frame=stub if
        case.doc.get("vae_stub") else None, )  # fmt: skip


def stub(latents: Tensor) -> Tensor:
    """What stands for decoding and encoding again where no autoencoder was recorded."""
    return 0.8 * latents[:, -1:] + 0.05


def match_of(case: Case) -> Matching:
    """How the recorded score networks were asked."""
    train = case.doc["train"]
    low, high = train.get("clamp", (20, 980))
    return Matching(
        guidance=train.get("guidance_scale_upstream_form", 0.0), shift=train["shift"],
        fake_guidance=train.get("fake_guidance_scale", 0.0),
        score_shift=train["score_net_sigma_table_shift"], lowest=low, highest=high,
        alpha=train.get("sid_alpha", 1.0),
    )  # fmt: skip


def films(case: Case) -> FilmBatch:
    """The recorded prompts and draws."""
    train, inputs = case.doc["train"], case.inputs
    wholes = {**exits_of(train["exit_step"]), "chunks": train["frames"] // train["frames_per_block"]}
    draws = Recorded(case, wholes, {"score.place": train["score_t_index"]})
    _, _, *latent = inputs["noise"].shape
    return FilmBatch(inputs["cond_embeds"], inputs["uncond_embeds"], tuple(latent), draws)


def exits_of(steps: Any) -> dict[str, Any]:
    """The draws of the step that all blocks are taken at, or of a list of one for each."""
    own = enumerate(steps) if isinstance(steps, list) else ()
    return {"exit": steps, **{f"exit.block{block}": step for block, step in own}}


def named(case: Case, prefix: str = "") -> Watch:
    """A watcher that gives what it is told, losses as one number."""

    also = {"score.noisy": "score.input", "score.timestep": "timestep"}

    def watch(name: str, value: Tensor) -> None:
        if name in also:
            case.give(prefix + also[name], value)
        case.give(prefix + name, value.reshape(1) if name.endswith("loss") else value)

    return watch


def replay_generator(case: Case) -> None:
    """DMD or SiD: past detached and leaky, the score networks by the published table and by one table."""
    loss = sid if "sid_alpha" in case.doc["train"] else dmd
    nets = Nets(*(net_of(case, name) for name in ("generator", "fake", "real")))
    nets.generator.requires_grad_(True)
    batch, match = films(case), match_of(case)
    one_table = replace(match, score_shift=match.shift)
    variants: list[tuple[str, ContextGradient, Matching]] = [
        ("detached", "none", match), ("leaky", "leaky", match), ("detached_s5", "none", one_table)
    ]  # fmt: skip
    for variant, context, asked in variants:
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


def replay_gradient(case: Case) -> None:
    """SGF: the student's film once without a gradient, then DMD with one through the context that it wrote, or
    not."""
    nets = Nets(*(net_of(case, name) for name in ("generator", "fake", "real")))
    batch, match, film = films(case), match_of(case), film_of(case, "replay")
    noisy, context, given = first_pass(case, nets, batch, film)
    nets.generator.requires_grad_(True)
    if given is not None:
        level = timesteps(film.recipe.sample)[case.doc["train"]["exit_step"]]
        times = torch.full(noisy.shape[:2], level.timestep)
        flow = forced_flow(nets.generator, film, batch, noisy, times, context, given)
        window = Window(flow_to_x0(noisy, flow, level.sigma), None)
        case.give("rollout", window.latents)
        match_window(nets, batch, window, match, named(case)).total.backward()
        give_gradients(case, nets.generator, "")
        return
    variants: list[tuple[str, ContextGradient]] = [("", "replay"), ("context_frozen.", "none")]
    for variant, context_gradient in variants:
        dmd(nets, batch, film_of(case, context_gradient), match, named(case, variant)).total.backward()
        give_gradients(case, nets.generator, variant)


@torch.no_grad()
def first_pass(
    case: Case, nets: Nets, batch: FilmBatch, film: RolloutSpec
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The film without a gradient: its noisy latents at the exit step, the context behind them, and the timesteps
    [b f] of that context if the second pass is given another one than the film was made with."""
    train, steps = case.doc["train"], len(film.recipe.sample.steps)
    final = train.get("cache_mode") == "final_clean"
    same = train.get("match_context", True)
    if final:
        wholes = {"exit": steps - 1, "chunks": train["frames"] // train["frames_per_block"]}
        batch = replace(batch, draws=Recorded(case, wholes, {}))
    sampler = sampler_for(nets.generator, film, len(batch.prompt), batch.latent)
    read: dict[str, list[Tensor]] = {"noisy": [], "clean": [], "x0": []}

    def follow(trace: Trace) -> None:
        if trace.kind == "clean":
            read["clean"].append(trace.latents)
        elif trace.step == train["exit_step"] and trace.denoised is not None:
            read["noisy"].append(trace.latents)
            read["x0"].append(trace.denoised)

    sampler.director.watch = follow
    sampler.director.start(batch.prompt)
    made = make_chunks(sampler, film, batch, film.frames // film.chunk, 0)
    noisy, clean, x0 = (torch.cat(found, 1) for found in read.values())
    for name, value in (
        ("exit_x0", x0),
        ("noisy_at_exit", noisy),
        ("clean_context", clean if same else made),
    ):
        case.give(f"pass1.{name}", value)
    if same and not final:
        return noisy, clean, None
    context_times = torch.full(noisy.shape[:2], film.recipe.sample.context_timestep if same else 0.0)
    return noisy, clean if same else made, context_times


def replay_contextual(case: Case) -> None:
    """Contextual DMD of a given video and its critic, by the published table and by one."""
    nets, train = Nets(None, net_of(case, "fake"), net_of(case, "real")), case.doc["train"]
    match = replace(match_of(case), critic_weighted=True)
    video = case.inputs["video"].clone().requires_grad_(True)
    places = {"score.place": train["score_t_index"], "critic.place": train["critic_t_index"]}
    _, _, *latent = video.shape
    batch = FilmBatch(
        case.inputs["cond_embeds"], case.inputs["uncond_embeds"], tuple(latent), Recorded(case, {}, places)
    )
    window = Window(video, None, train["context_frames"])
    for variant, asked in (("", match), ("s5.", replace(match, score_shift=match.shift))):
        match_window(nets, batch, window, asked, named(case, variant)).total.backward()
        case.give(f"{variant}grad_video", video.grad)
        video.grad = None
    nets.fake.requires_grad_(True)
    given = replace(window, latents=video.detach())
    learn_window(nets, batch, given, match, named(case, "critic."), "critic").total.backward()
    give_gradients(case, nets.fake, "critic.")


def clips(case: Case) -> ClipsGiven:
    """The recorded clips and draws."""
    train, inputs = case.doc["train"], case.inputs
    drawn = train.get("drawn_indices", {})
    others = [value for name, value in drawn.items() if name != "t_index"]
    places = {"place": drawn.get("t_index", 0), "context_place": others[0] if others else 0}
    draws = Recorded(case, {"consistency": train.get("index", 0)}, places)
    negative, states = inputs.get("uncond_embeds"), inputs.get("ode_latent")
    clean = inputs["clean_latent"] if states is None else states[:, -1]
    return ClipsGiven(inputs["cond_embeds"], clean, draws, negative, states)


def sees(case: Case) -> RolloutSpec:
    """The memory of a recorded forward over given clips; its noise levels are the steps."""
    train = case.doc["train"]
    steps = tuple(train.get("denoising_step_list", (1000,)))
    shift = train.get("shift", train.get("shift_of_the_nets_sigma_table", 5.0))
    sample = SampleSpec(steps=steps, warp=train.get("warp", True), shift=shift)
    return RolloutSpec(Recipe(memory_of(case), sample), context_gradient="replay")


def replay_given(case: Case) -> None:
    """Teacher forcing, regression of a solver's end, consistency: all on given clips."""
    train = case.doc["train"]
    batch, film, watch = clips(case), sees(case), named(case)
    if "discrete_cd_N" in train:
        nets = Nets(net_of(case, "generator"), real=net_of(case, "teacher"), average=net_of(case, "ema"))
        nets.generator.requires_grad_(True)
        settings = Consistency(steps=train["discrete_cd_N"], guidance=train["guidance_scale"])
        loss = consistency(nets, batch, film, settings, watch)
    else:
        nets = Nets(net_of(case, "generator"))
        nets.generator.requires_grad_(True)
        if batch.states is None:
            loss = forcing(
                nets, batch, film, Forcing(augment=train.get("noise_augmentation_max_timestep", 0)), watch
            )
        else:
            with_context = says("Causal-Forcing")(case)
            if with_context:
                batch = replace(batch, states=batch.states[:, :-1])
            loss = regression(nets, batch, film, see_clean=with_context, watch=watch)
    loss.total.backward()
    give_gradients(case, nets.generator, "")


def says(*words: str) -> Callable[[Case], bool]:
    """Whether a training case says one of these words of itself or of what it was recorded from."""

    def serves(case: Case) -> bool:
        upstream = case.doc.get("upstream") or {}
        said = f"{case.doc.get('what', '')} {upstream.get('entry', '')} {upstream.get('repo', '')}"
        return "train" in case.doc and any(word in said for word in words)

    return serves


SGF = ("SGF", "self_gradient_forcing")
KINDS: Kinds = (
    (says("contextual DMD", "compute_distribution_matching_loss"), replay_contextual),
    (says(*SGF), replay_gradient),
    (says("diffusion.py", "ode_regression.py", "naive_consistency.py"), replay_given),
    (says("critic_loss"), replay_critic),
    (says("DMD.generator_loss", "SiD.generator_loss"), replay_generator),
)
