"""Fused pieces make the film that single operations make, under every memory and through every call."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch

from gf_core.checkpoints.networks import Networks
from gf_core.config import Recipe, SampleSpec
from gf_core.errors import GroundedError
from gf_core.memory.checks import check_pictures
from gf_core.memory.presets import PRESETS
from gf_core.model import compiled
from gf_core.model.fp8 import hold_as_fp8, quantise
from gf_core.model.pieces import DIRECT, PLAIN, Fused
from gf_core.sampling.chunkwise import make_sampler
from gf_core.sampling.film import Cues, film_chunks
from gf_core.sampling.warm import warm_up

from ..vae.kinds import Counted
from .conftest import HEIGHT, SPEC, STEPS, WIDTH
from .test_methods import METHODS
from .test_rolling import plan_of

MEMORIES = {
    **METHODS,
    **{name: PRESETS[name] for name in ("grounded", "longlive", "reward_forcing")},
    "int8": replace(PRESETS["grounded"], stored="int8"),
    "longlive, a part": replace(PRESETS["longlive"], recache_reach=21),
}
SHORT = "a fox | 4.5s\nthen: it jumps | 1.5s\ncut: a hen | 1.5s"
TEXT = """@cast una = a hen | una.png
a fox | {short}s
then: it jumps | 1.5s | blend 1.5s
cut: {{una}} sits | 0.75s
then: it goes | {long}s
back to 2: a fox again | 0.75s
scene: rain | {short}s"""
EVERY = MEMORIES | PRESETS
ONCE = {memory: name for name, memory in EVERY.items()}.values()


@pytest.mark.parametrize(
    ("short", "long", "lead"),
    [(0.75, 2.25, 4), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((9, 15, 0), (1.5, 6, 10)))],
)
@pytest.mark.parametrize("name", ONCE)
def test_the_film_is_the_same_and_compiles_nothing_after_its_warm_up(
    sampler, embeds, name, short, long, lead
):
    """With a start image or video, a picture of the cast, a switch before memory is full, and going back."""
    memory, compiler, text = EVERY[name], Counted(), TEXT.format(short=short, long=long)
    plain, other = sampler(memory), sampler(memory, pieces=Fused(compiler, "counted"))
    try:
        check_pictures(memory)
    except GroundedError:
        text = text.replace(" | una.png", "")
    plan, begun = plan_of(text, memory), other.snapshot()
    warm_up(other, plan, lead)
    _holds_as_much_as_is_said(other.director.memory, plain.director.memory.sizes.buffers)
    assert not other.director._text and not other.director.switching and not other.director.memory.log
    for part, value in other.snapshot().items():
        assert torch.equal(value, begun[part]), part
    made, rng = set(compiler.shapes), torch.Generator().manual_seed(5)
    start, picture = (torch.randn(plain.director.shape(frames or 1), generator=rng) for frames in (lead, 1))
    latents, given = start if lead else None, {"una.png": picture}
    films = [
        [*film_chunks(run, Cues(plan, [*embeds, *embeds[:2]], given), lead=latents)] for run in (plain, other)
    ]
    for one, another in zip(*films, strict=True):
        torch.testing.assert_close(another.latents, one.latents, atol=1e-5, rtol=0)
    assert compiler.shapes - made == set()


@pytest.mark.parametrize("layers", ["plain", "fp8", "hooked"])
@pytest.mark.parametrize("name", ["grounded", "int8", "longlive"])
def test_past_the_modules_of_our_own_tree_every_bit_is_the_same(model, embeds, name, layers):
    """Linear layers of another kind, and such as somebody has hung something on, are asked all the same."""
    memory, tree = MEMORIES[name], copy.deepcopy(model)
    if layers == "fp8":
        full = tree.state_dict()
        for where, layer in hold_as_fp8(tree.blocks).items():
            layer.fill(*quantise(full[f"blocks.{where}.weight"]))
    if layers == "hooked":
        for part in ("self_attn.v", "self_attn.o", "cross_attn.q", "ffn.0"):
            tree.blocks[0].get_submodule(part).register_forward_hook(lambda layer, given, made: made * 1.5)

    def film(**placed):
        size = {"latent_height": HEIGHT, "latent_width": WIDTH}
        run = make_sampler(tree, SPEC, Recipe(memory, SampleSpec(steps=STEPS)), **size, **placed)
        return torch.cat(
            [clean.latents for clean in film_chunks(run, Cues(plan_of(SHORT, memory), embeds))], 1
        )

    assert torch.equal(film(), film(pieces=DIRECT))


@pytest.mark.parametrize(
    "part", ["blocks.0.norm1", "blocks.1.ffn", "blocks.0.cross_attn.norm_q", "blocks.1.ffn.1"]
)
def test_what_hangs_on_a_module_that_would_be_passed_by_acts(model, part):
    """Films are made past the modules of our own tree only where nobody has hung anything on them."""
    tree = copy.deepcopy(model)
    networks = Networks(tree, None, SPEC)
    size = {"latent_height": HEIGHT, "latent_width": WIDTH}
    assert networks.sampler(Recipe(), **size).director.memory.pieces is DIRECT
    hook = tree.get_submodule(part).register_forward_hook(lambda layer, given, made: made * 1.5)
    assert networks.sampler(Recipe(), **size).director.memory.pieces is PLAIN
    assert (
        Networks(copy.deepcopy(model), tree, SPEC).sampler(Recipe(), **size).director.memory.pieces is PLAIN
    )
    hook.remove()
    assert networks.sampler(Recipe(), **size).director.memory.pieces is DIRECT
    layer: Any = tree.get_submodule(part)
    layer.forward = lambda *given: given[0]
    assert networks.sampler(Recipe(), **size).director.memory.pieces is PLAIN


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("longlive, a part", "a fox | 9s\nthen: it | 0.75s"),  # over frames that have left memory
        ("grounded", "a fox | 1.5s\nthen: it | 12s | blend 12s"),  # when the prompt has arrived
    ],
)
def test_a_switch_that_comes_late_is_compiled_too(sampler, embeds, name, text):
    """So the film of nothing has to be as long, or its blend as short."""
    memory, compiler = EVERY[name], Counted()
    run, plan = sampler(memory, pieces=Fused(compiler, "counted")), plan_of(text, memory)
    warm_up(run, plan)
    made = set(compiler.shapes)
    for _ in film_chunks(run, Cues(plan, embeds)):
        pass
    assert compiler.shapes == made


def _holds_as_much_as_is_said(memory, plainly):
    """plainly: bytes of the same memory without fused pieces."""
    stores = (memory.raw_k, memory.k, memory.v, memory.unpacked_v, memory.anchor_latents, memory.history)
    bank = (*memory.bank.means, memory.bank.mean_key) if memory.bank else ()
    held = sum(store.nbytes for store in (*stores, *memory.means, *bank))
    assert (
        held == memory.sizes.buffers < plainly
        or memory.spec.heads
        or memory.packed
        or (memory.spec.wave and held == plainly)  # keys are turned at reading in any case
    )


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
            return torch.cat(
                [clean.latents.float() for clean in film_chunks(run, Cues(plan_of(SHORT), embeds))], 1
            )

    for made in (compiled._fused, compiled._compiler):
        made.cache_clear()
    exact, plain, fused = film(torch.float32), film(dtype), film(dtype, pieces=compiled.fused())
    torch._dynamo.reset()
    for made in (compiled._fused, compiled._compiler):
        made.cache_clear()
    again = film(dtype, pieces=compiled.fused())
    assert torch.equal(fused, again)
    off, usual = (fused - exact).norm() / exact.norm(), (plain - exact).norm() / exact.norm()
    assert off < 1.2 * usual + 1e-5, (off, usual)
    assert any(cache.rglob("*")), "what was compiled is kept"
