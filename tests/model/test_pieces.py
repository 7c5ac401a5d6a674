"""Fused pieces against the operations that they stand for."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gf_core.evaluation.bench import open_film, random_subject
from gf_core.memory.presets import PRESETS
from gf_core.model import compiled
from gf_core.model.pieces import DIRECT, HALVES, Fresh, Fused
from gf_core.rope import rotate
from gf_core.sampling.film import film_chunks

HEADS, WIDTH, TOKENS = 2, 256, 24


@pytest.fixture
def fused():
    return Fused(lambda function: function, "as written")


class Norm:
    """An RMS norm's numbers."""

    eps = 1e-6

    def __init__(self, dtype):
        self.weight = torch.randn(WIDTH, generator=torch.Generator().manual_seed(1)).to(dtype)


def inputs(dtype):
    """Queries or keys [b s c] that spread differently in every token, with values and turns."""
    rng = torch.Generator().manual_seed(0)
    spread = torch.rand(1, TOKENS, 1, generator=rng) * 30
    x = (torch.randn(1, TOKENS, WIDTH, generator=rng) * spread).to(dtype)
    v = torch.randn(1, TOKENS, HEADS, WIDTH // HEADS, generator=rng).to(dtype)
    return x, v, torch.randn(TOKENS, 1, WIDTH // HEADS // 2, 2, generator=rng)


def off(made, exact):
    return float((made.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32])
def test_numbers_turned_in_pairs_are_those_turned_one_by_one(fused, dtype):
    (x, v, turn), norm = inputs(dtype), Norm(dtype)
    wide = x.double()
    normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + norm.eps) * norm.weight.double()
    exact = rotate(normed.unflatten(-1, (HEADS, -1)).float(), turn).double()
    slots = [torch.zeros_like(v) for _ in range(3)]
    fused.lay_in(fused.fresh(norm, x, HEADS), v, turn, *slots)
    made = fused.turned(fused.fresh(norm, x, HEADS), turn)
    one_by_one = DIRECT.turned(DIRECT.fresh(norm, x, HEADS), turn)
    turned, values, raw = slots

    assert made.dtype == dtype and made.shape == exact.shape
    assert off(made, exact) <= max(off(one_by_one, exact), 1e-6)
    assert torch.equal(turned, made) and torch.equal(values, v)
    assert off(raw, normed.unflatten(-1, (HEADS, -1))) <= torch.finfo(dtype).eps

    again = torch.zeros_like(raw)
    fused.turn_all(raw[None], turn, again[None], frames=3)
    assert torch.equal(again, rotate(raw, turn))


def test_pairs_are_found_in_a_part_of_a_wider_product(fused):
    """Queries may be some columns of a product that gives keys and values as well."""
    (x, _, turn), norm = inputs(torch.bfloat16), Norm(torch.bfloat16)
    part = torch.cat([x, x + 1, x], -1)[..., WIDTH : 2 * WIDTH]
    alone = Fresh(part.clone(), norm.weight, norm.eps, HEADS)
    assert torch.equal(fused.turned(fused.fresh(norm, part, HEADS), turn), fused.turned(alone, turn))


def test_tokens_lie_one_after_the_other_in_every_block():
    """Sums keep the layout of what they begin with, and every norm, gate and product would read across it."""
    subject, seen = random_subject("tiny", PRESETS["grounded"], None, torch.device("cpu"), torch.float32), []
    for block in subject.model.blocks:
        block.register_forward_pre_hook(lambda _, given: seen.append(given[0].is_contiguous()))
    with torch.no_grad():
        next(film_chunks(*open_film(subject, 1)))
    assert len(seen) >= 4 * len(subject.model.blocks) and all(seen)


@pytest.mark.gpu
def test_compiled_latents_are_the_eager_ones_but_for_rounding():
    device = torch.device("cuda")
    assert compiled.works(device, torch.bfloat16)

    def latents(dtype, **changed):
        torch.manual_seed(0)
        subject = random_subject("tiny", PRESETS["grounded"], None, device, torch.float32)
        subject.model.to(dtype)
        with torch.no_grad():
            return list(film_chunks(*open_film(replace(subject, **changed), 3)))[-1].latents.double()

    exact, eager = latents(torch.float32), latents(torch.bfloat16)
    fused = latents(torch.bfloat16, pieces=compiled.fused())
    assert off(eager, exact) < 0.05
    assert off(fused, exact) <= 1.2 * off(eager, exact) + 1e-3
