"""One film on several ranks: its latents and states are those of one."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from gf_core import config
from gf_core.attention import attend
from gf_core.checkpoints.bundle import load_model
from gf_core.checkpoints.networks import Networks
from gf_core.config import MemorySpec, Recipe, SampleSpec
from gf_core.devices import on_threads
from gf_core.engine.film import settle
from gf_core.engine.follow import follow
from gf_core.errors import GroundedError
from gf_core.memory.checks import check_pictures
from gf_core.memory.presets import PRESETS
from gf_core.model.layers import Text
from gf_core.model.wan import WanModel
from gf_core.sampling.film import Cues, film_chunks
from gf_core.sampling.split import Split, check_split
from gf_core.team import join
from gf_core.timeline import Timing, make_plan, parse

from ..ranks import lead
from .conftest import SPEC
from .test_methods import METHODS

SIZE = {"latent_height": 10, "latent_width": 4}  # 5 rows of tokens for two ranks
TEXT = """@cast una = a hen | una.png
a fox | 3s
then: it jumps | 0.75s
cut: {una} | 0.75s
back to 1: it sits | 0.75s
scene: {una} | 0.75s"""
FILM = (
    "a red fox walks right in a meadow at noon | 1.5s\nthen: it jumps | 0.75s\n"
    "cut: the same red fox sleeps in the snow at night | 0.75s\nback to 1: it jumps | 0.75s"
)
THREE = replace(SPEC, dim=36, num_heads=3)  # and three heads
STEPS = (1000, 500)
SHARED = {
    "grounded": MemorySpec(),
    "changes": METHODS["changes"],
    "adaptive": METHODS["adaptive"],
    "heads": replace(
        METHODS["heads"], heads=(((2, 3), (2, 3), (1, 2)), ((2, 1), (0, 3), (0, 3))), heads_from=1
    ),
}
MORE = {
    "recache": METHODS["recache"],
    "packed": MemorySpec(stored="int8"),
    "sparse": METHODS["sparse"],
    "refresh": METHODS["refresh"],
    "long": METHODS["long"],
    "means of anchors": PRESETS["reward_forcing"],
    "all recomputed": PRESETS["longlive"],
    "cut": METHODS["cut"],
    "walk": METHODS["walk"],
}
MORE |= {
    name: memory
    for name, memory in PRESETS.items()
    if not memory.wave and memory not in [*SHARED.values(), *MORE.values()]
}


def plan_of(memory):
    text = TEXT
    try:
        check_pictures(memory)
    except GroundedError:
        text = TEXT.replace(" | una.png", "")
    return make_plan(parse(text), Timing(chunk_frames=3, latency=len(STEPS) - 1))


@torch.no_grad()
def films(networks, memories, embeds, team=None):
    """By memory, latents of a film's chunks, the state behind it, and what comes of restoring that.

    It begins with a start image or video, and has a picture of the cast where memory takes one.
    """
    found, rng = {}, torch.Generator().manual_seed(3)
    start, picture = (torch.randn(1, frames, 4, 10, 4, generator=rng) for frames in (4, 1))
    given = {"una.png": picture}
    for name, memory in memories.items():
        recipe = Recipe(memory, SampleSpec(steps=STEPS))
        with contextlib.nullcontext() if team is None else team.agreed("make", recipe, **SIZE):
            run = networks.sampler(recipe, **SIZE, team=team)
        chunks = [
            clean.latents
            for clean in film_chunks(run, Cues(plan_of(memory), [*embeds, embeds[0]], given), lead=start)
        ]
        state = run.snapshot()
        run.restore(state)
        found[name] = chunks, state, run.snapshot()
    return found


@pytest.mark.parametrize(
    ("memories", "in_place"),
    [(SHARED, False), (SHARED, True), pytest.param(MORE, True, marks=pytest.mark.slow)],
    ids=["rows alone", "rows in place", "more"],
)
def test_two_ranks_make_the_film_of_one(memories, in_place, embeds, tmp_path, monkeypatch):
    if not in_place:  # as large networks are computed
        monkeypatch.setattr(config, "SMALL", 0)
    torch.manual_seed(0)
    tree = WanModel(THREE).eval().requires_grad_(False)
    for parameter in tree.parameters():
        parameter.copy_(torch.randn_like(parameter) * 0.2 + (parameter.ndim == 1) * 0.5)
    networks = Networks(tree, None, THREE)
    got = lead(2, tmp_path, partial(films, networks, memories, embeds), partial(follow, networks=networks))
    for name, (chunks, state, _) in films(networks, memories, embeds).items():
        mine, left, again = got[name]
        for index, (one, both) in enumerate(zip(chunks, mine, strict=True)):
            assert (one - both).norm() < 1e-6 * one.norm(), (name, index)
        assert left.keys() == state.keys() == again.keys(), name
        for part, value in state.items():
            assert (left[part].float() - value.float()).norm() <= 2e-6 * value.float().norm(), (name, part)
            assert torch.equal(left[part], again[part]), (name, part)


def failing(team):
    """A rank that runs out of room in the midst of a call."""
    networks = Networks(WanModel(THREE).eval().requires_grad_(False), None, THREE)
    real, calls = torch.stack, iter(range(20))

    def stack(*args):
        if next(calls) == 9:
            raise torch.OutOfMemoryError("no room")
        return real(*args)

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(torch.OutOfMemoryError):
        patch.setattr("gf_core.sampling.split.torch.stack", stack)
        follow(team, networks)
    os._exit(0)


@torch.no_grad()
def told(embeds, team):
    networks = Networks(WanModel(THREE).eval().requires_grad_(False), None, THREE)
    said = []
    for _ in range(2):
        try:
            films(networks, SHARED, embeds, team)
        except GroundedError as error:
            said.append(str(error))
    return said


def test_a_rank_that_fails_ends_the_film_in_words(embeds, tmp_path):
    first, again = lead(2, tmp_path, partial(told, embeds), failing)
    assert "2 ranks were making the film and one failed" in first and "the same command goes on" in first
    assert "not in step any more" in again


def test_rows_of_a_prompt_are_rounded_as_on_one_rank():
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, tokens, 2, 128, generator=generator) for tokens in (72, 20, 20))
    text = Text(k, v, torch.linspace(0, 3, 20).reshape(1, 1, 1, 20))
    whole = attend(q, k, v, bias=text.bias).unflatten(1, (3, 24))
    for rank, rows in enumerate((slice(0, 6), slice(6, 12), slice(12, 24))):
        split = Split(SimpleNamespace(rank=rank, count=3), replace(THREE, dim=384), 8, 12)
        placed = split.prompt_in_place(text, 3)
        mine = q.unflatten(1, (3, 24))[:, :, rows].flatten(1, 2)
        got = attend(mine, placed.k, placed.v, kernel=placed.kernel, bias=placed.bias)
        assert torch.equal(got, whole[:, :, rows].flatten(1, 2)), rank


@torch.no_grad()
def built_in(team=None, dtype=torch.float64, size=(32, 32)):
    """Latents of a film of the built-in model, and the bytes that were sent before every chunk."""
    bundle, sent = load_model(dtype=dtype), []
    width, height = size
    recipe = replace(bundle.recipe, video=replace(bundle.recipe.video, width=width, height=height))
    bundle.team = team
    film = settle(bundle, FILM, recipe=recipe)
    embeds = [bundle.text.encode([segment.prompt])[0][None].to(dtype) for segment in film.plan.segments]
    with on_threads(bundle.threads_for(recipe)):
        run = bundle.sampler(recipe)
        made = film_chunks(run, Cues(film.plan, embeds), before=lambda _: sent.append(team and team.sent))
        return [clean.latents for clean in made], sent


def stand_by(team, dtype=torch.float64):
    bundle = load_model(dtype=dtype)
    follow(team, Networks(bundle.model, bundle.writer, bundle.spec))


@pytest.mark.slow
def test_the_built_in_model_on_two_ranks(tmp_path):
    """Through a switch, a cut and back to the first shot; as many bytes as docs/several-cards.md says."""
    got, sent = lead(2, tmp_path, built_in, stand_by)
    for index, (one, both) in enumerate(zip(built_in()[0], got, strict=True)):
        assert (one - both).norm() < 1e-10 * one.norm(), index
    spec, width, tokens, frames, calls = load_model().spec, 8, 3 * 4, 3, 5
    quarter = tokens // 2 * spec.dim // 2 * width  # half the rows of half the heads
    attention = quarter * (4 * (calls * spec.num_layers - 1) + 2)
    latents = frames * 16 * 4 * 4 * width
    assert sent[2] - sent[1] == attention + calls * (latents + 7 * spec.dim * width) - 7 * spec.dim * width


@pytest.mark.slow
@pytest.mark.parametrize("size", [(96, 64), (32, 32)], ids=["its own size", "the smallest"])
def test_the_built_in_model_on_two_ranks_in_float32(size, tmp_path):
    """On as many threads as one process takes: sums on two are others."""
    options = {"dtype": torch.float32, "size": size}
    work, serve = partial(built_in, **options), partial(stand_by, dtype=torch.float32)
    got, _ = lead(2, tmp_path, work, serve)
    for index, (one, both) in enumerate(zip(work()[0], got, strict=True)):
        assert (one - both).norm() < 1e-7 * one.norm(), index


@pytest.mark.parametrize(
    ("ranks", "memory", "words"),
    [
        (4, MemorySpec(), "4 ranks cannot share the 3 attention heads.*--nproc-per-node 2 or fewer"),
        (3, MemorySpec(), "3 ranks cannot share the 2 rows of tokens"),
        (
            2,
            replace(METHODS["heads that pick"], heads=(((1, 1), (1, 1), (1, 1, 2)),) * 2),
            "pick runs of tokens",
        ),
    ],
)
def test_what_ranks_cannot_share_is_said(ranks, memory, words):
    with pytest.raises(GroundedError, match=words.partition(".*")[0]) as error:
        check_split(THREE, Recipe(memory), 4, ranks)
    assert words.partition(".*")[2] in error.value.fix


def test_a_torch_without_ranks_makes_films_alone(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_available", lambda: False)
    monkeypatch.delattr(torch.distributed, "is_torchelastic_launched")
    assert join(None) is None
