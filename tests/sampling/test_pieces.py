"""Fused pieces make the film that single operations make, under every memory and through every call."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from gf_core.config import Recipe, SampleSpec
from gf_core.memory.presets import PRESETS
from gf_core.model import compiled
from gf_core.model.pieces import Fused
from gf_core.sampling.chunkwise import make_sampler
from gf_core.sampling.film import film_chunks

from .conftest import HEIGHT, SPEC, STEPS, WIDTH
from .test_methods import METHODS
from .test_rolling import plan_of

MEMORIES = {
    **METHODS,
    **{name: PRESETS[name] for name in ("grounded", "longlive", "reward_forcing")},
    "int8": replace(PRESETS["grounded"], stored="int8"),
}
SHORT = "a fox | 4.5s\nthen: it jumps | 1.5s\ncut: a hen | 1.5s"


@pytest.mark.parametrize("name", MEMORIES)
def test_the_film_is_the_same(sampler, embeds, name):
    """With verbs, recaches, banks, heads, packed slots and joint calls; no compiler is asked here."""
    pieces = Fused(lambda function: function, "as written")
    plain, other = (sampler(MEMORIES[name], **placed) for placed in ({}, {"pieces": pieces}))
    other.director.warm_up(switches=True)
    memory = other.director.memory
    stores = (memory.raw_k, memory.k, memory.v, memory.unpacked_v, memory.anchor_latents, memory.history)
    held = sum(
        store.nbytes for store in (*stores, *memory.means, *(memory.bank.means if memory.bank else ()))
    )
    plainly = plain.director.memory.sizes.buffers
    assert (
        held == memory.sizes.buffers < plainly
        or memory.spec.heads
        or memory.packed
        or (memory.spec.wave and held == plainly)  # keys are turned at reading in any case
    )
    films = [[clean.latents for clean in film_chunks(run, plan_of(SHORT), embeds)] for run in (plain, other)]
    for one, another in zip(*films, strict=True):
        torch.testing.assert_close(another, one, atol=1e-5, rtol=0)


class Counted:
    """Stands for a compiler: what it would compile is each shape of each piece."""

    def __init__(self):
        self.shapes = set()

    def __call__(self, function):
        def piece(*given):
            shapes = tuple(tuple(x.shape) if isinstance(x, torch.Tensor) else x for x in given)
            self.shapes.add((function.__name__, shapes))
            return function(*given)

        return piece


@pytest.mark.parametrize("name", ["grounded", "longlive", "self_forcing", "infinity_rope", "reward_forcing"])
def test_a_film_compiles_nothing_after_its_warm_up(sampler, embeds, name):
    """Prompts are all as long as in half the width, where rows of nothing are not left out."""
    compiler, whole = Counted(), [torch.ones(1, SPEC.text_len, SPEC.text_dim)] * 4
    run = sampler(PRESETS[name], pieces=Fused(compiler, "counted"))
    begun = run.director.snapshot()
    run.director.warm_up(switches=True)
    assert not run.director._text and not run.director.switching
    for part, value in run.director.snapshot().items():
        assert torch.equal(value, begun[part]), part
    made = {shape for shape in compiler.shapes if shape[0] != "_normed"}  # a prompt's keys come with it
    for _ in film_chunks(run, plan_of(SHORT), whole):
        pass
    assert {shape for shape in compiler.shapes if shape[0] != "_normed"} - made == set()


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("GROUNDED_CACHE", str(tmp_path))
    monkeypatch.delenv(compiled.FOLDER, raising=False)
    return tmp_path / "compiled"


@pytest.mark.slow
@pytest.mark.timeout(1800)  # the processor's own compiler makes some thirty pieces, one by one
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled_the_film_is_the_same_and_its_bits_come_again(embeds, cache, model, dtype):
    """Without a break in any piece (`fullgraph`). In bfloat16 it is no further from float32 than single operations."""
    trees = {kind: copy.deepcopy(model).to(kind) for kind in (torch.float32, dtype)}

    def film(dtype, **placed):
        recipe = Recipe(PRESETS["grounded"], SampleSpec(steps=STEPS))
        size = {"latent_height": HEIGHT, "latent_width": WIDTH}
        run = make_sampler(trees[dtype], SPEC, recipe, **size, **placed)
        with torch.no_grad():
            return torch.cat([clean.latents.float() for clean in film_chunks(run, plan_of(SHORT), embeds)], 1)

    compiled._fused.cache_clear()
    exact, plain, fused = film(torch.float32), film(dtype), film(dtype, pieces=compiled.fused())
    torch._dynamo.reset()
    compiled._fused.cache_clear()
    again = film(dtype, pieces=compiled.fused())
    assert torch.equal(fused, again)
    off, usual = (fused - exact).norm() / exact.norm(), (plain - exact).norm() / exact.norm()
    assert off < 1.2 * usual + 1e-5, (off, usual)
    assert any(cache.rglob("*")), "what was compiled is kept"
