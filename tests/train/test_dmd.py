"""Films of training are the engine's, gradients go where they are said to, and losses are the published forms."""

from dataclasses import replace

import pytest
import torch

from gf_core.config import MemorySpec, SampleSpec
from gf_core.memory.presets import PRESETS
from gf_core.sampling.schedule import timesteps
from gf_core.train import rollout
from gf_core.train.films import Cue
from gf_core.train.objectives import dmd as objectives
from gf_core.train.objectives.dmd import critic, dmd, learn_window, match_window, sid
from gf_core.train.objectives.scores import Matching, judged, level, sigma_at
from gf_core.train.rollout import Window, roll_out

from .conftest import check_recomputed, drawn, engine
from .fixed import RandomDraws

GROUNDED = MemorySpec(anchors=2, recent=3)


BELOW = 0.9
"""Between the likenesses of chunks of this noise, so that the two layers choose differently."""
BANKS = {
    "bank": MemorySpec(anchors=1, recent=3, bank=2, bank_below=BELOW, bank_from=3, switch="cross_only"),
    "means": MemorySpec(anchors=1, recent=3, bank=2, bank_policy="means", switch="cross_only"),
}


class Fixed(RandomDraws):
    """Noise by its name, and the exit step that a test wants."""

    def __init__(self, exit_step=1):
        super().__init__(*(torch.Generator().manual_seed(n) for n in range(2)))
        self.exit_step, self.kept = exit_step, {}

    def whole(self, name, low, high):
        return {"exit": self.exit_step, "chunks": high - 1}[name]

    def normal(self, name, shape):
        if name not in self.kept:
            self.kept[name] = super().normal(name, shape)
        return self.kept[name]

    def places(self, name, shape, high=1000):
        return torch.tensor([400, 700])[: shape[0]]


@pytest.mark.parametrize(
    ("verbs", "context"),
    [
        ({}, "none"), ({2: "then"}, "none"), ({1: "then", 3: "then"}, "replay"), ({3: "cut"}, "leaky"),
        ({2: "scene"}, "none"), ({1: "cut", 3: "then"}, "none"),
    ],
)  # fmt: skip
def test_a_film_of_training_is_the_engine_s(nets, films, verbs, context):
    """Dual memory, relative positions, graded recache and cuts included."""
    cues = {block: Cue(verb, films.prompts[1 + n]) for n, (block, verb) in enumerate(verbs.items())}
    batch = films.batch(cues=cues, draws=Fixed())
    film = films.spec(GROUNDED, context_noise=False, context_gradient=context)
    window = roll_out(nets.generator, film, batch)
    wanted = engine(nets.generator, film.recipe, batch.prompt, cues, drawn(batch.draws.kept))
    assert window.latents.requires_grad
    torch.testing.assert_close(window.latents, wanted, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", [name for name, spec in PRESETS.items() if spec.rolling is None])
def test_a_film_of_training_is_the_engine_s_under_every_memory(nets, films, name, memories):
    """Of 27 frames, so that every window has let frames go, with a change of prompt and a cut behind the first.

    Chunks that are denoised together have tests of their own (`test_rolling`).
    """
    spec = replace(PRESETS[name], bank_below=BELOW) if PRESETS[name].bank > 2 else PRESETS[name]
    film = films.spec(spec, context_noise=False, frames=27, window=27)
    for verbs in ({}, {4: "then", 7: "cut"}):
        cues = {block: Cue(verb, films.prompts[1 + n]) for n, (block, verb) in enumerate(verbs.items())}
        batch = films.batch(cues=cues, draws=Fixed())
        window = roll_out(nets.generator, film, batch)
        wanted = engine(nets.generator, film.recipe, batch.prompt, cues, drawn(batch.draws.kept))
        assert window.latents.requires_grad
        torch.testing.assert_close(window.latents, wanted, atol=1e-5, rtol=1e-5)
        banks = {tuple(frame.number for frame in bank) for bank in memories[-1].ledger.banks}
        assert len(banks) == (2 if spec.bank > 2 else 1)


def reach(nets, films, context, **changes):
    """Gradient of the last chunk on the first chunk's noise, and its size on the weights."""
    draws = Fixed(0)
    film = films.spec(context_gradient=context, **changes)
    roll_out(nets.generator, film, films.batch(draws=draws))
    noise = draws.kept["noise"].requires_grad_()
    window = roll_out(nets.generator, film, films.batch(draws=draws))
    nets.generator.zero_grad()
    window.latents[:, 3:6].square().sum().backward()
    assert noise.grad is not None
    assert noise.grad[:, 3:6].any()
    return noise.grad[:, :3], nets.generator.blocks[0].self_attn.k.weight.grad.clone()


def test_gradients_stay_in_their_chunk(nets, films):
    none, alone = reach(nets, films, "none")
    leaky, leaked = reach(nets, films, "leaky")
    replay, written = reach(nets, films, "replay")
    assert not none.any() and leaky.any()
    assert not replay.any()  # the context is what was made, a constant; how it is written has a gradient
    assert not torch.allclose(alone, leaked) and not torch.allclose(alone, written)
    read_clean = [reach(nets, films, context, context_noise=False)[0] for context in ("none", "replay")]
    assert not any(gradient.any() for gradient in read_clean)


@pytest.mark.parametrize(
    ("spec", "verb"),
    [
        (GROUNDED, None),
        (GROUNDED, "then"),
        (GROUNDED, "cut"),
        (replace(BANKS["bank"], bank_below=2.0), None),
        (BANKS["means"], None),
    ],
)
def test_a_constant_past_gives_no_weight_a_gradient(nets, films, spec, verb):
    """What the last chunk tells every weight is what it tells them behind a past made without gradients."""
    cues = {3: Cue(verb, films.prompts[1])} if verb else {}
    batch = films.batch(cues=cues, draws=Fixed(0))

    def told(context, learn_from=0):
        film = films.spec(spec, context_gradient=context)
        sampler = rollout.sampler_for(nets.generator, film, 1, batch.latent)
        sampler.director.start(batch.prompt)
        latents = rollout.make_chunks(sampler, film, batch, 5, learn_from)
        nets.generator.zero_grad()
        latents[:, 12:].square().sum().backward()
        return [p.grad.clone() for p in nets.generator.parameters()]

    wanted = told("none", learn_from=4)

    def worst(context):
        """Largest difference of a weight's gradient, in units of its largest."""
        return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(told(context), wanted))

    assert worst("none") < 1e-5  # 8e-7: their sums round otherwise
    assert worst("leaky") > 0.01 and worst("replay") > 0.01


def test_steps_before_the_exit_have_no_gradient(nets, films):
    draws = Fixed(1)
    roll_out(nets.generator, films.spec(), films.batch(draws=draws))
    first, second = (draws.kept[name].requires_grad_() for name in ("noise", "renoise.block1.step0"))
    roll_out(nets.generator, films.spec(), films.batch(draws=draws)).latents.square().sum().backward()
    assert first.grad is None and second.grad is not None


def test_the_clean_pass_of_training_reads_under_noise(nets, films):
    draws = Fixed(0)
    plain, noisy = (
        roll_out(nets.generator, films.spec(context_noise=noise), films.batch(draws=draws)).latents
        for noise in (False, True)
    )
    assert torch.equal(plain[:, :3], noisy[:, :3]) and not torch.equal(plain[:, 3:6], noisy[:, 3:6])


def test_chunks_may_each_leave_at_a_step_of_their_own(nets, films):
    draws = Fixed()
    draws.whole = lambda name, low, high: {"exit": 0, "chunks": high - 1}.get(name, name.endswith(("1", "3")))
    roll_out(nets.generator, films.spec(one_exit=False), films.batch(draws=draws))
    renoised = {name for name in draws.kept if name.startswith("renoise")}
    assert renoised == {"renoise.block1.step0", "renoise.block3.step0"}


def test_only_the_newest_frames_have_a_gradient(nets, films):
    draws = Fixed(0)
    film = films.spec(frames=15, window=9, context_gradient="leaky")
    roll_out(nets.generator, film, films.batch(draws=draws))
    noise = draws.kept["noise"].requires_grad_()
    window = roll_out(nets.generator, film, films.batch(draws=draws))
    window.latents.square().sum().backward()
    assert not noise.grad[:, :6].any() and noise.grad[:, 6:9].any()
    assert window.latents.shape[1] == 9 and window.learned.tolist() == [False] * 3 + [True] * 6


def test_a_window_begins_as_a_clip_does(nets, films):
    seen = []

    def first(latents):
        seen.append(latents.shape[1])
        return latents[:, -1:] * 0 + 7

    film = films.spec(window=9, first_frame=first)
    window = roll_out(nets.generator, film, films.batch(draws=Fixed()))
    assert seen == [7] and (window.latents[:, 0] == 7).all() and not (window.latents[:, 1:] == 7).any()


@pytest.mark.parametrize("learned", [None, torch.tensor([False, True, True])])
def test_the_gradient_of_a_judged_clip_is_the_one_given(learned):
    clip, gradient = torch.randn(2, 3, 4, 2, 2, requires_grad=True), torch.randn(2, 3, 4, 2, 2)
    judged(clip, gradient, learned).backward()
    wanted = gradient / clip.numel()
    if learned is not None:
        wanted = torch.where(learned[:, None, None, None], gradient / clip[:, learned].numel(), 0.0)
    torch.testing.assert_close(clip.grad, wanted)


def test_dmd_pushes_the_frames_that_count_by_each_samples_own_unit(nets, films):
    """Where a context or an old piece lies in front, its frames are judged and not moved."""
    told, batch = {}, films.batch(draws=Fixed())
    batch = replace(batch, prompt=batch.prompt.expand(2, -1, -1), negative=batch.negative.expand(2, -1, -1))
    size = torch.tensor([1.0, 5.0])[:, None, None, None, None]
    latents = (torch.randn(2, 9, 4, 2, 4) * size).requires_grad_()
    learned = torch.arange(9) >= 3
    match_window(nets, batch, Window(latents, learned), Matching(), told.__setitem__).total.backward()
    c, u = told["score.real_cond_x0"], told["score.real_uncond_x0"]
    real = u + 4 * (c - u)
    scale = (latents.detach() - real).abs().mean((1, 2, 3, 4), keepdim=True)
    gradient = (told["score.fake_cond_x0"] - real) / scale
    wanted = torch.where(learned[:, None, None, None], gradient / latents[:, learned].numel(), 0.0)
    torch.testing.assert_close(latents.grad, wanted, rtol=1e-4, atol=1e-7)


def test_guidance_is_one_more_than_the_usual_scale(nets, films):
    """c + g (c - u) is u + (g + 1) (c - u); the gradient of DMD is the critic's answer less that, in its own unit."""
    told = {}
    dmd(nets, films.batch(draws=Fixed()), films.spec(), Matching(), told.__setitem__)
    c, u = told["score.real_cond_x0"], told["score.real_uncond_x0"]
    real = u + 4 * (c - u)
    scale = (told["rollout"] - real).abs().mean()
    torch.testing.assert_close(
        told["dmd_grad"], (told["score.fake_cond_x0"] - real) / scale, rtol=1e-4, atol=1e-5
    )


def test_levels_are_the_published_ones():
    steps = timesteps(SampleSpec(steps=(1000, 750, 500, 250)))
    assert [round(step.timestep, 2) for step in steps] == [1000.0, 937.5, 833.33, 625.0]
    places = torch.tensor([0, 400, 999])
    torch.testing.assert_close(level(places, Matching()).flatten(), torch.tensor([20.0, 769.2308, 980.0]))


@pytest.mark.parametrize("objective", [dmd, sid, critic])
def test_each_objective_teaches_its_own_network(nets, films, objective):
    loss = objective(nets, films.batch(), films.spec(), Matching())
    loss.total.backward()
    taught = {name for name in ("generator", "fake", "real")
              if any(p.grad is not None for p in getattr(nets, name).parameters())}  # fmt: skip
    assert taught == {"fake" if objective is critic else "generator"}
    assert all(not value.requires_grad for value in loss.parts.values())


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_score_identity_is_the_published_form(nets, films, alpha):
    """Where teacher and critic part, times how far the film is from the teacher's, less a share of the former."""
    told, match = {}, Matching(alpha=alpha)
    with torch.no_grad():
        loss = sid(nets, films.batch(draws=Fixed()), films.spec(), match, told.__setitem__).total
    c, u = told["score.real_cond_x0"], told["score.real_uncond_x0"]
    real, clip = u + 4 * (c - u), told["rollout"]
    gap = real - told["score.fake_cond_x0"]
    wanted = gap * ((real - clip) - alpha * gap) / (clip - real).abs().mean()
    torch.testing.assert_close(loss, wanted.mean().double(), rtol=1e-4, atol=1e-5)


def test_score_identity_holds_its_unit_still(nets, films, monkeypatch):
    """What the loss is divided by has no gradient, as published; what score networks see of the film has one."""
    clip, batch, told = torch.randn(1, 3, 4, 2, 4).requires_grad_(), films.batch(draws=Fixed()), {}
    monkeypatch.setattr(objectives, "film_window", lambda *_: (batch, Window(clip, None)))
    monkeypatch.setattr(
        objectives, "both_scores", lambda _, seen, *__: (0.5 * seen.latents, 2 * seen.latents)
    )
    sid(nets, batch, films.spec(), Matching(), told.__setitem__).total.backward()
    again = clip.detach().requires_grad_()
    keeps = 1 - sigma_at(told["score.timestep"], Matching().shift)  # of the film, in what is seen
    seen = told["score.noisy"].detach() + keeps * (again - again.detach())
    loss = 1.5 * seen * (2 * seen - again - 1.5 * seen) / (again - 2 * seen).detach().abs().mean()
    torch.testing.assert_close(clip.grad, torch.autograd.grad(loss.mean(), again)[0], rtol=1e-4, atol=1e-6)


def test_the_critic_learns_all_that_is_judged_of_a_film_made_anew(nets, films, monkeypatch):
    """Of which the student learns less: the first chunk behind the past counts for nothing."""
    counted = []
    monkeypatch.setattr(
        objectives, "learn_window", lambda _, __, window, *___: counted.append(window.learned)
    )
    critic(nets, films.batch(draws=Fixed()), films.spec(frames=15, window=12, context=6), Matching())
    assert counted == [None]


@pytest.mark.parametrize("weighted", [False, True])
def test_a_critic_that_knows_the_film_has_no_loss(nets, films, monkeypatch, weighted):
    """Its flow leads from the noisy film to the clean one, by the table that its own level is looked up in."""
    match, batch = Matching(critic_weighted=weighted), films.batch(draws=Fixed())
    clip = torch.randn(1, 9, 4, 2, 4)
    assert learn_window(nets, batch, Window(clip, None), match).total > 0.1

    def knows(net, noisy, timestep, prompt):
        return (noisy - clip) / sigma_at(timestep, match.shift if weighted else match.score_shift)

    monkeypatch.setattr("gf_core.train.objectives.dmd.flow_of", knows)
    assert learn_window(nets, batch, Window(clip, None), match).total < 1e-9


@pytest.mark.parametrize("context", ["none", "leaky", "replay"])
@pytest.mark.parametrize("spec", [None, *BANKS.values()], ids=["window", *BANKS])
def test_layers_computed_again_change_nothing(nets, films, context, spec, memories):
    film = films.spec(spec, frames=27, window=27, context_gradient=context)
    check_recomputed(nets.generator, film, lambda: films.batch(draws=Fixed()), memories)


def test_a_context_is_made_to_the_end_and_judged_by_what_follows(nets, films):
    """Contextual DMD: teacher and critic see the context as it is, and only what follows is learned."""
    told, draws = {}, Fixed(0)
    film = films.spec(frames=15, window=12, context=6)
    loss = dmd(nets, films.batch(draws=draws), film, Matching(), told.__setitem__)
    assert torch.equal(told["score.noisy"][:, :6], told["rollout"][:, :6])
    assert torch.equal(told["score.real_cond_x0"][:, :6], told["rollout"][:, :6])
    assert told["dmd_grad"].shape[1] == 6
    # Blocks before the target, frames 9 to 14, take both steps; those of the target leave at the first.
    renoised = {name for name in draws.kept if name.startswith("renoise")}
    assert renoised == {f"renoise.block{block}.step0" for block in range(3)}
    loss.total.backward()
    window = roll_out(nets.generator, film, films.batch(draws=draws))
    assert window.judged.tolist() == [False] * 3 + [True] * 3
    learned = critic(nets, films.batch(draws=draws), film, Matching(critic_weighted=True))
    assert learned.total.requires_grad
