"""Objectives on clips that exist: the past goes through the engine's memory and is the masked forward of other code."""

from dataclasses import replace

import pytest
import torch

from gf_core.config import MemorySpec, Recipe, SampleSpec
from gf_core.model.forward import Call, text_kv, time_conditioning
from gf_core.rope import turns
from gf_core.sampling.schedule import Schedule
from gf_core.train.films import ClipsGiven
from gf_core.train.objectives.forced import (
    Consistency,
    Forcing,
    consistency,
    forced_flow,
    forcing,
    regression,
)
from gf_core.train.objectives.scores import Nets
from gf_core.train.rollout import RolloutSpec, make_chunks, sampler_for

from ..masked import Masked
from .fixed import RandomDraws

CHUNKS, SIZE, TOKENS = 3, 3, 2
WHOLE = MemorySpec(anchors=0, recent=6, anchor_policy="none", positions="absolute", max_position=None)


def doubled(head_dim):
    """A masked forward over [clean | noisy]: a noisy chunk sees the clean ones before it and itself."""
    frames = CHUNKS * SIZE
    turn = turns(torch.arange(frames), 1, 2, head_dim).repeat(2, 1, 1, 1)
    chunk = torch.arange(2 * frames * TOKENS) // (SIZE * TOKENS)
    noisy, number = chunk >= CHUNKS, chunk % CHUNKS
    clean_before = ~noisy & (number < number[:, None])
    itself = (noisy == noisy[:, None]) & (number == number[:, None])
    return Masked(clean_before | itself, turn)


@pytest.fixture
def clips(films):
    generator = torch.Generator().manual_seed(3)
    states = torch.randn(2, 3, CHUNKS * SIZE, 4, 2, 4, generator=generator)
    draws = RandomDraws(*(torch.Generator().manual_seed(n) for n in range(2)))
    prompt, negative = (films.prompts[n].expand(2, -1, -1) for n in (0, 2))
    return ClipsGiven(prompt, states[:, -1], draws, negative, states)


@pytest.fixture
def film():
    return RolloutSpec(Recipe(WHOLE, SampleSpec(steps=(1000, 500))))


def test_forcing_is_the_masked_forward_over_a_doubled_sequence(nets, clips, film):
    noisy, clean, net = torch.randn(2, 9, 4, 2, 4), clips.latents, nets.generator
    times = torch.tensor([[700.0] * 3 + [300.0] * 3 + [900.0] * 3, [20.0] * 9])

    def gradients(flow):
        net.zero_grad()
        flow.square().sum().backward()
        return {name: p.grad.clone() for name, p in net.named_parameters()}

    both = torch.cat([torch.zeros_like(times), times], 1)
    time = time_conditioning(net, both, torch.float32)
    text = text_kv(net, clips.prompt, net.spec.text_len)
    wanted = Call(net, torch.cat([clean, noisy], 1), time, text, doubled(net.spec.head_dim)).run()[:, 9:]
    got = forced_flow(net, film, clips, noisy, times, clean)
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)
    theirs = gradients(wanted)
    for name, grad in gradients(got).items():
        torch.testing.assert_close(grad, theirs[name], atol=1e-4, rtol=1e-3, msg=name)


def test_replay_predicts_what_the_film_took(nets, films):
    """SGF's second pass over what the first left is the film itself."""
    spec, batch = films.spec(films.memory, context_gradient="replay"), films.batch()
    sampler = sampler_for(nets.generator, spec, 1, batch.latent)
    read = {"denoise": [], "clean": []}
    sampler.director.watch = lambda trace: read[trace.kind].append(trace)
    batch.draws.whole = lambda name, low, high: 1
    sampler.director.start(batch.prompt)
    with torch.no_grad():
        film = make_chunks(sampler, spec, batch, 5, 0)
    exits = [trace for trace in read["denoise"] if trace.step == 1]
    noisy, context = (torch.cat([t.latents for t in traces], 1) for traces in (exits, read["clean"]))
    level = sampler.levels[1]
    flow = forced_flow(nets.generator, spec, batch, noisy, torch.full((1, 15), level.timestep), context)
    torch.testing.assert_close(noisy - level.sigma * flow, film, atol=1e-5, rtol=1e-5)


def test_teacher_forcing_weighs_levels_and_shows_a_clean_past(nets, clips, film):
    told = {}
    loss = forcing(nets, clips, film, Forcing(), told.__setitem__)
    times = told["timestep"]
    assert (times[:, ::3] == times[:, 1::3]).all() and (times[:, ::3] == times[:, 2::3]).all()
    assert torch.equal(told["clean_context"], clips.latents)
    table = Schedule(5.0)
    weight = table.loss_weights()[table.index(times)]
    sigma = table.sigma(times)[..., None, None, None]
    noise = (told["noisy"] - (1 - sigma) * clips.latents) / sigma
    error = (told["flow"] - (noise - clips.latents)).square().mean((2, 3, 4))
    torch.testing.assert_close(loss.total, (error * weight).mean(), rtol=1e-3, atol=1e-3)
    told.clear()
    forcing(nets, clips, film, Forcing(augment=300), told.__setitem__)
    assert not torch.equal(told["clean_context"], clips.latents)


def test_regression_leaves_out_what_has_no_noise(nets, clips, film):
    steps = replace(film.recipe, sample=SampleSpec(steps=(1000, 500, 0)))
    told = {}
    clips.draws.places = lambda name, shape, high=0: torch.tensor([[0] * 3 + [1] * 3 + [2] * 3]).expand(shape)
    loss = regression(nets, clips, replace(film, recipe=steps), see_clean=False, watch=told.__setitem__)
    assert told["timestep"][0, ::3].tolist() == pytest.approx([1000, 833.3333, 0])
    wanted = (told["x0"] - clips.states[:, -1])[:, :6].square().mean()
    torch.testing.assert_close(loss.total, wanted)


def test_consistency_compares_with_the_teacher_s_next_state(nets, clips, film):
    told = {}
    trio = Nets(nets.generator, real=nets.real, average=nets.fake)
    loss = consistency(trio, clips, film, Consistency(steps=8), told.__setitem__)
    here, there = told["t"] / 1000
    guided = told["teacher_uncond_flow"] + 3 * (told["teacher_cond_flow"] - told["teacher_uncond_flow"])
    torch.testing.assert_close(told["next_state"], told["noisy"] + (there - here) * guided)
    with torch.no_grad():
        time = told["t"][0].expand(clips.latents.shape[:2])
        for prompt, name in ((clips.prompt, "cond"), (clips.negative, "uncond")):
            said = forced_flow(
                nets.real, film, replace(clips, prompt=prompt), told["noisy"], time, clips.latents
            )
            torch.testing.assert_close(told[f"teacher_{name}_flow"], said)
    loss.total.backward()
    assert any(p.grad is not None for p in nets.generator.parameters())
    assert all(p.grad is None for net in (nets.real, nets.fake) for p in net.parameters())
