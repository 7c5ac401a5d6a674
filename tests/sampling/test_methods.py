"""Every memory that is more than anchors and recent frames: the states that it leaves, and the films that it makes."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gf_core.config import Recipe, SampleSpec
from gf_core.memory.presets import PRESETS
from gf_core.sampling.chunkwise import make_sampler
from gf_core.sampling.film import Cues, film_chunks, replay
from gf_core.timeline import make_plan, parse

from ..heads import PICKING
from .conftest import HEIGHT, SPEC, STEPS, WIDTH
from .test_rolling import MEMORIES, TEXT, plan_of

RECORDED = Path(__file__).parents[1] / "fixtures" / "methods.json"
"""Numbers of films made when every method agreed with recordings of its public code (`dev/parity`)."""

METHODS = {
    **MEMORIES,
    "changes": replace(PRESETS["context_forcing"], bank=3, bank_below=2.0),
    "changes, recache": replace(PRESETS["context_forcing"], bank=3, bank_below=2.0, switch="recache"),
    "means": PRESETS["memrope"],
    "adaptive": PRESETS["memrope_adaptive"],
    "cut": PRESETS["infinity_rope_cut"],
    "refresh": PRESETS["krea"],
    "refresh, flush": replace(PRESETS["krea"], recent=5, switch="flush"),
    "heads": replace(
        PRESETS["self_forcing_rolling"],
        anchors=2,
        recent=3,
        heads=(((2, 3), (2, 3)), ((2, 1), (0, 3))),
        heads_from=2,
    ),
    "heads that pick": replace(PRESETS["self_forcing_rolling"], **PICKING),
    "sparse": PRESETS["light_forcing"],
    "means, flush": replace(PRESETS["memrope"], switch="flush"),
    "walk": replace(PRESETS["rolling_sink"], anchors=6, recent=3),
}


@pytest.mark.parametrize("name", METHODS)
def test_clean_passes_alone_leave_the_same_state(sampler, embeds, name):
    """At segments' ends, where states are kept; also from behind a scene, which starts from nothing."""
    plan, run, twin = plan_of(), sampler(METHODS[name]), sampler(METHODS[name])
    ends = [segment.end - 1 for segment in plan.segments]
    latents, states = [], {}
    for clean in film_chunks(run, Cues(plan, embeds)):
        latents.append(clean.latents)
        if clean.index in ends:
            states[clean.index] = run.snapshot()
    for index in replay(twin, Cues(plan, embeds), latents.__getitem__, 0, plan.chunks):
        if index in ends:
            _same(twin.snapshot(), states[index])
    fresh = sampler(METHODS[name])
    fresh.director.memory.ledger.skip(3 * (ends[2] + 1), 2)
    for _ in replay(fresh, Cues(plan, embeds), latents.__getitem__, ends[2] + 1, plan.chunks):
        pass
    _same(fresh.snapshot(), states[ends[3]])


OLDER = {name: PRESETS[name] for name in ("grounded", "longlive", "reward_forcing", "sgf")}


@pytest.mark.parametrize("name", [*METHODS, *OLDER])
@pytest.mark.parametrize(("back", "other"), [("", "cut:"), (" | motion", "then:")])
def test_going_back_is_as_if_nothing_had_been_in_between(sampler, embeds, name, back, other):
    """The chunks of another shot in between count for positions that are absolute, and where the film's age does."""
    between = "cut: a hen | 0.75s | seed 9\n"
    gone = make_plan(parse(f"a fox | 2.25s\n{between}back to 1: it rests | 1.5s | seed 4{back}"))
    straight = make_plan(parse(f"a fox | 2.25s\n{other} it rests | 1.5s | seed 4"))
    films, memory = [], (METHODS | OLDER)[name]
    for plan in (gone, straight):
        rows = [embeds[0], *embeds[1 : len(plan.segments) - 1], embeds[3]]
        made = sampler(memory)
        films.append([clean.latents for clean in film_chunks(made, Cues(plan, rows))])
        ledger, frames = made.director.memory.ledger, plan.timing.latent_frames
        assert ledger.frame == sum(map(frames, range(plan.chunks))), "the film's count goes on"
        assert ledger.prompt == len(plan.segments) - 1
        if memory.positions == "absolute":
            ends = range(ledger.frame - len(ledger.recent), ledger.frame)
            assert [frame.number for frame in ledger.recent] == list(ends)
    pairs = list(zip(films[0][-2:], films[1][-2:], strict=True))
    if memory.positions == "relative":
        assert all(torch.equal(*pair) for pair in pairs)
    else:
        assert all(one.isfinite().all() for one, _ in pairs)


def _same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


@pytest.mark.parametrize("name", METHODS)
def test_films_stay_what_they_were(sampler, embeds, name):
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))[name]
    made = numbers_of(sampler(METHODS[name]), embeds)
    assert torch.tensor(made).sub(torch.tensor(recorded)).abs().max() < 2e-4


def test_other_weights_write_the_memory_and_denoise_nothing(model, sampler, embeds):
    other = copy.deepcopy(model)
    for parameter in other.parameters():
        parameter.mul_(1.1)
    recipe = Recipe(PRESETS["sgf"], SampleSpec(steps=STEPS))
    placed = {"latent_height": HEIGHT, "latent_width": WIDTH}
    both = make_sampler(model, SPEC, recipe, writer=other, **placed).director
    alone, second = (make_sampler(tree, SPEC, recipe, **placed).director for tree in (model, other))
    given = torch.randn(both.shape(3), generator=torch.Generator().manual_seed(3))
    for director in (both, alone, second):
        director.start(embeds[0])
        director.prefill(given)
    _same(both.snapshot(), second.snapshot())
    alone.restore(both.snapshot())
    flows = [
        director.predict(given, director.time(500.0), director.open(3)[0])
        for director in (both, alone, second)
    ]
    assert torch.equal(flows[0], flows[1]) and not torch.equal(flows[0], flows[2])


def numbers_of(sampler, embeds):
    """Three numbers per chunk: the mean, the mean size, one value."""
    films = film_chunks(sampler, Cues(plan_of(TEXT), embeds))
    chunks = [clean.latents for clean in films]
    return [[float(c.mean()), float(c.abs().mean()), float(c[0, -1, -1, -1, -1])] for c in chunks]
