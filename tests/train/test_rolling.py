"""Films whose chunks are denoised together, learned from (Rolling Forcing): which calls have a gradient, and which."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from gf_core.attention import attend
from gf_core.config import Recipe, SampleSpec
from gf_core.errors import GroundedError
from gf_core.memory.presets import PRESETS
from gf_core.model.forward import Call, text_kv, time_conditioning
from gf_core.rope import rotate, turns
from gf_core.sampling.chunkwise import Chunkwise
from gf_core.sampling.rolling import Rolling
from gf_core.sampling.sampler import Chunk
from gf_core.sampling.schedule import flow_to_x0, timesteps
from gf_core.train import rollout
from gf_core.train.draws import SampleDraws
from gf_core.train.films import Cue
from gf_core.train.objectives import CPU
from gf_core.train.objectives.dmd import critic, dmd, sid
from gf_core.train.objectives.scores import Matching
from gf_core.train.rollout import RolloutSpec, roll_out
from gf_core.train.streaming import Stream

from .conftest import check_recomputed, drawn, engine
from .fixed import RandomDraws, generator

FIVE = (1000, 800, 600, 400, 200)
MEMORIES = {
    "long": (PRESETS["rolling_forcing"], FIVE),
    "short": (replace(PRESETS["rolling_forcing"], recent=6, rolling=12), (1000, 600, 300)),
}


class Given(RandomDraws):
    """Noise by its name, and the numbers that a test wants; of a film's length the longest."""

    def __init__(self, **wanted: int) -> None:
        super().__init__(generator("own"), generator("shared"))
        self.wanted, self.kept = {"joint": 0, **wanted}, dict[str, Tensor]()

    def whole(self, name: str, low: int, high: int) -> int:
        return self.wanted.get(name, high - 1)

    def normal(self, name: str, shape: tuple[int, ...]) -> Tensor:
        return self.kept.setdefault(name, torch.randn(shape, generator=generator(name)))


def film_of(name: str, frames: int = 27, window: int = 21, **changes) -> RolloutSpec:
    memory, steps = MEMORIES[name]
    return RolloutSpec(Recipe(memory, SampleSpec(steps=steps)), frames=frames, window=window, **changes)


@dataclass
class Seen:
    """One call of a film of training, with what lay in memory before it."""

    kind: str
    number: int
    latents: Tensor
    denoised: Tensor | None
    learns: bool
    past: tuple[Tensor, Tensor]


@pytest.fixture
def calls(monkeypatch) -> list[Seen]:
    """Every call of the films of training that are made."""
    found, make = list[Seen](), rollout.sampler_for

    def watched(*given):
        director = (sampler := make(*given)).director

        def watch(trace) -> None:
            memory = director.memory
            seen = memory.layout.past * memory.tokens_per_frame
            past = memory.raw_k[:, :, :seen].clone(), memory.v[:, :, :seen].clone()
            grad = trace.flow.requires_grad
            found.append(Seen(trace.kind, trace.step, trace.latents, trace.denoised, grad, past))

        director.watch = watch
        return sampler

    monkeypatch.setattr(rollout, "sampler_for", watched)
    return found


@pytest.mark.parametrize("verbs", [{}, {2: "then", 7: "cut"}, {3: "scene", 4: "then"}], ids=str)
@pytest.mark.parametrize("name", MEMORIES)
def test_a_film_of_training_is_the_engine_s(nets, films, calls, name, verbs):
    """What is written into memory, that is; of it a loss sees what the calls that learn predict."""
    cues = {block: Cue(verb, films.prompts[1 + n]) for n, (block, verb) in enumerate(verbs.items())}
    batch, film = films.batch(cues=cues, draws=Given(remainder=1)), film_of(name)
    window = roll_out(nets.generator, film, batch)
    wanted = engine(nets.generator, film.recipe, batch.prompt, cues, drawn(batch.draws.kept))
    made = torch.cat([call.latents for call in calls if call.kind == "clean"], 1)
    torch.testing.assert_close(made, wanted, atol=1e-5, rtol=1e-5)
    assert window.latents.requires_grad and window.latents.shape[1] == 21
    assert not torch.allclose(window.latents, wanted[:, -21:], atol=0.1)
    assert not any(name.startswith("context_noise") for name in batch.draws.kept)


def of_the_paper(chunks: int, steps: int, remainder: int, judged: int) -> list[tuple[int, range]]:
    """Number and chunks of the calls that learn: of those that leave a remainder, that reach the judged chunks."""
    windows = [(n, range(max(0, n - steps + 1), min(chunks - 1, n) + 1)) for n in range(chunks + steps - 1)]
    return [(n, held) for n, held in windows if n % steps == remainder and held.stop > chunks - judged]


@pytest.mark.parametrize("name, frames", [("long", 21), ("long", 27), ("short", 27), ("short", 6)])
def test_calls_that_learn_hold_every_judged_chunk_once(nets, films, calls, name, frames):
    film = film_of(name, frames, min(frames, 21))
    chunks, judged, steps = frames // 3, film.window // 3, len(film.recipe.sample.steps)
    for remainder in range(steps):
        calls.clear()
        window = roll_out(nets.generator, film, films.batch(draws=Given(remainder=remainder)))
        moves = [call for call in calls if call.kind == "denoise"]
        assert len(moves) == chunks + steps - 1
        wanted = of_the_paper(chunks, steps, remainder, judged)
        learned = [move for move in moves if move.learns]
        assert [(one.number, one.latents.shape[1]) for one in learned] == [
            (n, 3 * len(held)) for n, held in wanted
        ]
        held = [chunk for _, part in wanted for chunk in part]
        assert sorted(held) == held and set(held) >= set(range(chunks - judged, chunks))
        assert len(held) == len(set(held))
        taken = torch.cat([one.denoised for one in learned if one.denoised is not None], 1)
        assert torch.equal(window.latents, taken[:, -film.window :])


@pytest.mark.parametrize("remainder", range(5))
def test_noise_that_no_learned_call_begins_with_has_no_gradient(nets, films, remainder):
    """Nothing goes from one call to the next, or to what finished chunks have left in memory."""
    film, draws = film_of("long"), Given(remainder=remainder)
    roll_out(nets.generator, film, films.batch(draws=draws))
    for value in draws.kept.values():
        value.requires_grad_()
    window = roll_out(nets.generator, film, films.batch(draws=draws))
    window.latents.square().sum().backward()
    touched = {name for name, value in draws.kept.items() if value.grad is not None and value.grad.any()}
    noise = draws.kept["noise"].grad
    parts = () if noise is None else noise.split(3, 1)
    touched |= {f"block{block}" for block, part in enumerate(parts) if part.any()}
    begun = set[str]()
    for number, held in of_the_paper(9, 5, remainder, 7):
        begun |= {f"renoise.block{block}.step{number - block - 1}" for block in held if block < number}
        begun |= {f"block{block}" for block in held if block == number}
    if remainder == 2:  # what was added to these before the window was reached is told nobody
        begun -= {"renoise.block0.step1", "renoise.block1.step0"}
    assert touched - {"noise"} == begun


def test_nothing_goes_from_one_learned_call_to_the_next(nets, films):
    """Not even where each call has a chunk at its exit."""
    film = film_of("short")
    noise = torch.randn(3, 1, 3, 4, 2, 4, generator=generator("noise")).requires_grad_()
    sampler = rollout.sampler_for(nets.generator, film, 1, (4, 2, 4))
    sampler.director.start(films.prompts[0])
    made = [
        one
        for block, first in enumerate(noise)
        for one in sampler.feed(Chunk(block, lambda i, first=first: first.detach() if i else first, exit=0))
    ]
    made += sampler.flush()
    made[-1].learned.square().sum().backward()
    assert noise.grad is not None and noise.grad[2].any() and not noise.grad[:2].any()


class Plain:
    """What a call over several chunks sees: the first three frames, the newest others and itself; 21 frames or so."""

    def __init__(self, past: tuple[Tensor, Tensor], frames: int, most: int, head_dim: int) -> None:
        self._past, self._head_dim = past, head_dim
        held = past[0].shape[2] // 2
        newest = max(0, min(held - 3, most - 3 - frames))
        self._slots = [*range(min(3, held)), *range(held - newest, held)]
        self._frames = frames

    def attend(self, layer: int, q: Tensor, raw_k: Tensor, v: Tensor) -> Tensor:
        k, values = (
            torch.cat([*(side[layer, :, 2 * slot : 2 * slot + 2] for slot in self._slots), own], 1)
            for side, own in zip(self._past, (raw_k, v))
        )
        turn = turns(torch.arange(len(self._slots) + self._frames), 1, 2, self._head_dim)
        return attend(rotate(q, turn[-q.shape[1] :]), rotate(k, turn), values)

    def write(self, layer: int, raw_k: Tensor, v: Tensor) -> None:
        """Nothing is kept."""


@pytest.mark.parametrize("name, remainder", [("long", 0), ("long", 3), ("short", 0), ("short", 1)])
def test_gradients_are_those_of_plain_calls(nets, films, calls, name, remainder):
    """Each learned call once more, over the same tokens with its past as constants: together all that weights get."""
    net, film, batch = nets.generator, film_of(name), films.batch(draws=Given(remainder=remainder))
    latents = roll_out(net, film, batch).latents
    weight = torch.randn(latents.shape, generator=generator("weight"))
    net.zero_grad()
    (latents * weight).sum().backward()
    got = {key: p.grad.clone() for key, p in net.named_parameters() if p.grad is not None}

    net.zero_grad()
    levels, steps = timesteps(film.recipe.sample), len(film.recipe.sample.steps)
    weight = torch.cat([torch.zeros_like(weight[:, :6]), weight], 1)
    text = text_kv(net, batch.prompt, net.spec.text_len)
    learned = {call.number: call for call in calls if call.learns}
    for number, held in of_the_paper(9, steps, remainder, 7):
        call, at = learned[number], [levels[number - chunk] for chunk in held for _ in range(3)]
        time = time_conditioning(net, torch.tensor([[level.timestep for level in at]]), torch.float32)
        view = Plain(call.past, len(at), film.recipe.memory.rolling or 0, net.spec.head_dim)
        flow = Call(net, call.latents.detach(), time, text, view).run()
        assert flow is not None
        sigma = torch.tensor([level.sigma for level in at])[:, None, None, None]
        clean = flow_to_x0(call.latents.detach(), flow, sigma)
        torch.testing.assert_close(clean, call.denoised, atol=1e-5, rtol=1e-5)
        (clean * weight[:, 3 * held.start : 3 * held.stop]).sum().backward(retain_graph=True)
    wanted = {key: p.grad for key, p in net.named_parameters() if p.grad is not None}
    assert got.keys() == wanted.keys() and len(wanted) > 40
    for key, value in wanted.items():
        torch.testing.assert_close(got[key], value, atol=1e-4 * float(value.abs().max()), rtol=1e-4, msg=key)


def test_the_other_films_are_made_chunk_by_chunk_under_the_same_memory(nets, films, calls):
    """Taken at their first step they are the engine's of one step, whose windows hold one chunk."""
    film, batch = film_of("long", window=27, context_noise=False), films.batch(draws=Given(joint=999, exit=0))
    window = roll_out(nets.generator, film, batch)
    recipe = replace(film.recipe, sample=SampleSpec(steps=(1000,)))
    wanted = engine(nets.generator, recipe, batch.prompt, {}, drawn(batch.draws.kept))
    torch.testing.assert_close(window.latents, wanted, atol=1e-5, rtol=1e-5)
    assert len(calls) == 18 and all(call.latents.shape[1] == 3 for call in calls)
    assert sum(call.learns for call in calls) == 9


@pytest.mark.parametrize("context", ["none", "leaky", "replay"])
def test_layers_computed_again_change_nothing(nets, films, context, memories):
    film = film_of("short", 18, 12, context_gradient=context)
    check_recomputed(nets.generator, film, lambda: films.batch(draws=Given(remainder=1)), memories)


def test_the_past_may_be_learned_through(nets, films):
    """A written chunk passes its gradient to the learned call that it was the oldest of, as the published code's cache
    does, whether it was finished by it or later; or to the weights of the pass that wrote it."""
    found = {}
    for context in ("none", "leaky", "replay"):
        nets.generator.zero_grad()
        film = film_of("long", 21, context_gradient=context)
        roll_out(
            nets.generator, film, films.batch(draws=Given(remainder=1))
        ).latents.square().sum().backward()
        found[context] = nets.generator.blocks[0].self_attn.k.weight.grad.clone()
    assert not torch.allclose(found["none"], found["leaky"])
    assert not torch.allclose(found["none"], found["replay"])
    assert not torch.allclose(found["leaky"], found["replay"])


@pytest.mark.parametrize("remainder", range(5))
def test_a_leak_leads_to_the_oldest_chunk_of_a_learned_call(nets, films, memories, remainder):
    """Which alone that call lays in the published code's cache; also where a later call has finished the chunk."""
    film = film_of("long", 21, context_gradient="leaky")
    roll_out(nets.generator, film, films.batch(draws=Given(remainder=remainder)))
    wanted = [3 * held.start + n for _, held in of_the_paper(7, 5, remainder, 7) for n in range(3)]
    for frames in memories[-1].gradients.graph:
        assert [number for number, (k, _) in sorted(frames.items()) if k.requires_grad] == wanted
        assert len(frames) == 21


def test_of_a_longer_film_the_newest_frames_are_judged(nets, films, calls):
    seen = []

    def first(latents: Tensor) -> Tensor:
        seen.append(latents.clone())
        return latents[:, -1:] * 0 + 7

    film = film_of("long", first_frame=first)
    window = roll_out(nets.generator, film, films.batch(draws=Given(remainder=2)))
    assert [one.shape[1] for one in seen] == [7] and not (seen[0] == 0).flatten(2).all(2).any()
    assert (window.latents[:, 0] == 7).all() and window.latents.shape[1] == 21
    assert window.learned is not None and window.learned.tolist() == [False] * 3 + [True] * 18
    taken = torch.cat([call.denoised for call in calls if call.learns and call.denoised is not None], 1)
    assert torch.equal(window.latents[:, 1:], taken[:, -20:])
    short = roll_out(nets.generator, film_of("long", 21), films.batch(draws=Given(remainder=2)))
    assert short.learned is None and short.latents.shape[1] == 21


def test_a_context_is_what_was_finished(nets, films, calls):
    film = film_of("short", 27, 15, context=6)
    window = roll_out(nets.generator, film, films.batch(draws=Given(remainder=0)))
    made = torch.cat([call.latents for call in calls if call.kind == "clean"], 1)
    assert torch.equal(window.latents[:, :6], made[:, 12:18])
    assert {call.number % 3 for call in calls if call.learns} == {0}  # none for the sake of the context
    window.latents[:, :6].square().sum().backward()
    assert not any(p.grad is not None and p.grad.any() for p in nets.generator.parameters())
    assert window.judged is not None and window.judged.tolist() == [False] * 3 + [True] * 6


@pytest.mark.parametrize("share, thrown, joint", [
    (0.5, 499, True), (0.5, 500, False), (1.0, 999, True), (0.0, 0, False), (0.25, 250, False),
])  # fmt: skip
def test_a_coin_of_the_batch_says_how_a_film_is_made(nets, films, monkeypatch, share, thrown, joint):
    made, make = [], rollout.sampler_for

    def kept(*given):
        made.append(type(sampler := make(*given)))
        return sampler

    monkeypatch.setattr(rollout, "sampler_for", kept)
    roll_out(nets.generator, film_of("short", joint=share), films.batch(draws=Given(joint=thrown)))
    assert made == [Rolling if joint else Chunkwise]


def test_ranks_toss_alike():
    """Of one batch, whatever their samples, as it decides how many calls are made; half of the batches together."""
    tossed = []
    for batch in range(200):
        ranks = [SampleDraws(3, batch, range(n, n + 1), CPU) for n in (batch, batch + 1)]
        asked = [(draws.whole("joint", 0, 1000), draws.whole("remainder", 0, 5)) for draws in ranks]
        assert asked[0] == asked[1]
        tossed.append(asked[0])
    assert 80 < sum(coin < 500 for coin, _ in tossed) < 120
    assert {remainder for _, remainder in tossed} == set(range(5))


@pytest.mark.parametrize("joint", [0, 999])
def test_two_films_of_the_same_draws_are_the_same(nets, films, joint):
    """To the bit, with their gradients; and side by side they are what each is alone."""

    def learned():
        draws = Given(joint=joint, remainder=1, exit=1)
        window = roll_out(nets.generator, film_of("short"), films.batch(draws=draws))
        nets.generator.zero_grad()
        window.latents.square().sum().backward()
        return [window.latents, *(p.grad for p in nets.generator.parameters() if p.grad is not None)]

    assert all(map(torch.equal, learned(), learned()))


@pytest.mark.parametrize("objective", [dmd, sid, critic])
@pytest.mark.parametrize("joint", [0, 999])
def test_each_objective_teaches_its_own_network(nets, films, objective, joint):
    draws = Given(joint=joint, remainder=1, exit=1)
    objective(nets, films.batch(draws=draws), film_of("short"), Matching()).total.backward()
    taught = {name for name in ("generator", "fake", "real")
              if any(p.grad is not None for p in getattr(nets, name).parameters())}  # fmt: skip
    assert taught == {"fake" if objective is critic else "generator"}


def test_films_that_go_on_are_refused():
    with pytest.raises(GroundedError, match="do not go on from step to step") as told:
        Stream(film_of("long"))
    assert "no stream" in str(told.value.fix)


@pytest.mark.parametrize("joint", [0, 999])
def test_waves_are_refused(nets, films, joint):
    film = replace(film_of("long"), recipe=Recipe(PRESETS["wave_forcing"], SampleSpec(steps=FIVE)))
    with pytest.raises(GroundedError, match="gradients do not go through"):
        roll_out(nets.generator, film, films.batch(draws=Given(joint=joint)))
