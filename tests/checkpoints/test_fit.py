"""What is done so that a film fits: the same latents with blocks that wait, nearly the same with weights in a byte."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from gf_core.checkpoints.bundle import load_model
from gf_core.checkpoints.load import build_network
from gf_core.checkpoints.lora import parse_lora
from gf_core.config import Fit, MemorySpec, ModelSpec, Recipe, SampleSpec
from gf_core.estimate.room import ModelCost, bundle_cost
from gf_core.files.lazy import LazyTensor
from gf_core.model import pieces
from gf_core.model.fp8 import FLOAT8, LARGEST, Fp8Linear, Fp8Product, quantise, to_float8
from gf_core.model.offload import Streamed, device_bytes, waiting
from gf_core.model.pieces import PLAIN, Fused, Pieces
from gf_core.model.wan import WanModel
from gf_core.sampling.chunkwise import make_sampler
from gf_core.sampling.noise import chunk_noise
from gf_core.sampling.sampler import Chunk
from gf_core.vae.tiles import Tiled

SPEC = ModelSpec(
    dim=48, ffn_dim=96, num_heads=2, num_layers=5, in_dim=4, out_dim=4, text_len=5, text_dim=8, freq_dim=16
)


@pytest.fixture(scope="module")
def stored() -> dict[str, LazyTensor]:
    """A tiny model's tensors as a file holds them."""
    torch.manual_seed(0)
    state = {
        n: torch.randn_like(v) * 0.2 + (v.ndim == 1) * 0.5 for n, v in WanModel(SPEC).state_dict().items()
    }
    return {name: LazyTensor(v.dtype, tuple(v.shape), lambda v=v: v) for name, v in state.items()}


def built(stored: dict[str, LazyTensor], fit: Fit | None = None) -> WanModel:
    return build_network(SPEC, stored, fit=fit)


@torch.no_grad()
def chunks(model: WanModel, count: int = 3, by: Pieces = PLAIN) -> list[torch.Tensor]:
    """Latents of a film with a switch, which goes over the blocks in all ways that there are."""
    recipe = Recipe(MemorySpec(), SampleSpec(steps=(1000, 500)))
    placed = {"device": torch.device("cpu"), "dtype": torch.float32, "latent_height": 2, "latent_width": 4}
    sampler = make_sampler(model, SPEC, recipe, **placed, pieces=by)
    prompts = torch.randn(2, 1, 3, SPEC.text_dim, generator=torch.Generator().manual_seed(1))
    sampler.director.start(prompts[0])
    made = []
    for number in range(count):
        if number == 2:
            sampler.director.switch(prompts[1])
        noise = partial(chunk_noise, 7, number, shape=sampler.director.shape(3))
        made += [clean.latents for clean in sampler.feed(Chunk(number, noise))]
    return made


@pytest.fixture(scope="module")
def expected(stored):
    return chunks(built(stored))


@pytest.mark.parametrize("resident", [0, 2, 4])
def test_blocks_that_wait_change_no_bit(stored, expected, resident):
    model = built(stored, Fit(resident=resident))
    assert isinstance(model.blocks, Streamed)
    for ours, theirs in zip(chunks(model), expected):
        assert torch.equal(ours, theirs)
    state = model.state_dict()
    assert state.keys() == stored.keys()
    assert all(torch.equal(value, stored[name].load()) for name, value in state.items())


def test_a_call_that_breaks_off_leaves_the_next_one_as_it_is(stored, expected):
    model = built(stored, Fit(resident=1))
    for number, _ in enumerate(model.blocks):
        if number == 2:
            break
    assert torch.equal(chunks(model)[1], expected[1])


@pytest.mark.parametrize(("blocks", "resident"), [(30, 0), (30, 18), (30, 29), (6, 6), (5, 2)])
def test_as_many_wait_as_are_not_to_stay_each_once(blocks, resident):
    away = waiting(blocks, resident)
    assert len(set(away)) == len(away) == blocks - resident and all(0 <= one < blocks for one in away)


@pytest.mark.parametrize(("weights", "multiplied"), [("fp8", 0), ("fp8-fast", 6)])
def test_weights_in_a_byte_make_nearly_the_same_film(stored, expected, weights, multiplied, monkeypatch):
    """Blocks that wait change no bit of it, a cast in the piece before a product next to nothing."""
    monkeypatch.setattr(pieces, "AT_ONCE", 5)
    model = built(stored, Fit(weights=weights))
    for kind, count in ((Fp8Linear, 8 if multiplied else 10), (Fp8Product, multiplied)):
        assert sum(isinstance(layer, kind) for layer in model.modules()) == count * SPEC.num_layers
    made = chunks(model)
    for ours, theirs in zip(made, expected):
        assert 0 < (ours - theirs).norm() / theirs.norm() < 0.1
    both = chunks(built(stored, Fit(resident=2, weights=weights)))
    fused = chunks(model, by=Fused(lambda function: function, "as written"))
    assert all(torch.equal(one, other) for one, other, _ in zip(both, made, fused))
    for one, other in zip(fused, made):
        torch.testing.assert_close(one, other, atol=2e-2, rtol=0)


@torch.no_grad()
def test_a_lora_changes_a_weight_whose_file_gives_its_rows(stored):
    """The others are held with the numbers and scales of the file."""
    file, halves = dict(stored), torch.full((SPEC.ffn_dim,), 0.5)
    changed, left = "blocks.0.ffn.0", "blocks.1.ffn.0"
    for name in (f"{changed}.weight", f"{left}.weight"):
        rows = ((stored[name].load() * 2).to(FLOAT8), halves)
        file[name] = replace(stored[name], rows=lambda rows=rows: rows)
    parts = {"A": torch.randn(2, SPEC.dim), "B": torch.randn(SPEC.ffn_dim, 2)}
    lazy = {
        f"{changed}.lora_{part}.weight": LazyTensor(v.dtype, tuple(v.shape), lambda v=v: v)
        for part, v in parts.items()
    }
    lora = parse_lora(lazy, "a LoRA", 1.0, {name: one.shape for name, one in stored.items()})
    model = build_network(SPEC, file, loras=[lora], fit=Fit(weights="fp8"))
    layer, other = (model.get_submodule(name) for name in (changed, left))
    assert isinstance(layer, Fp8Linear) and isinstance(other, Fp8Linear)
    expected = stored[f"{changed}.weight"].load() + parts["B"] @ parts["A"]
    torch.testing.assert_close(layer.weight.float() * layer.scale[:, None], expected, atol=0.02, rtol=0.07)
    assert torch.equal(other.scale, halves)


@pytest.mark.parametrize("rows", [torch.full((32,), 0.01), torch.rand(32)])
def test_a_product_in_float8_is_that_of_both_rounded(rows):
    """With the numbers and scales of a file, whatever these are."""
    weight, x = torch.randn(32, 64).to(FLOAT8), torch.randn(1, 6, 64)
    linear = torch.nn.Linear(64, 32)
    layer = Fp8Product(linear, 4.0)
    layer.fill(weight, rows)
    expected = (x * 4).to(FLOAT8).float() / 4 @ (weight.float() * rows[:, None]).T + linear.bias
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(layer(to_float8(x, 4.0)), layer(x)) and layer(x).dtype == torch.float32
    assert torch.equal(to_float8(torch.tensor([1e9, -1e9]), 1.0).float(), torch.tensor([LARGEST, -LARGEST]))


def test_a_row_is_off_by_float8_and_what_was_float8_by_nothing():
    weight = torch.randn(4, 256) * torch.tensor([1e-3, 1.0, 50.0, 0.0])[:, None]
    small, scale = quantise(weight)
    assert small.dtype == FLOAT8 and torch.equal(scale.log2().round(), scale.log2())
    back = small.float() * scale[:, None]
    assert ((back - weight).abs() <= weight.abs() / 16 + scale[:, None] * 2**-10).all()
    assert (small.float().abs().amax(1)[:3] > 200).all()
    again, scale_again = quantise(back)
    assert torch.equal(again.float() * scale_again[:, None], back)


@pytest.mark.parametrize("fit", [Fit(), Fit(resident=1), Fit(weights="fp8"), Fit(2, 0, "full", "fp8-fast")])
def test_what_weights_take_on_a_device_is_foretold(stored, fit):
    """On a card; a processor holds the blocks that wait too. Places are cut to whole pieces of 256 bytes."""
    foretold = ModelCost(SPEC, value_bytes=4).fitted(fit).weight_bytes
    taken = device_bytes(built(stored, fit), torch.device("cuda"))
    assert foretold <= taken < foretold + 2 * 40 * 256


def test_all_of_it_reaches_the_film_and_its_keys():
    fits = (None, Fit(4, 16, "int8", "fp8"), Fit(weights="fp8-fast"))
    plain, fitted, fast = (load_model("builtin", fit=fit) for fit in fits)
    assert len({bundle.fingerprint for bundle in (plain, fitted, fast)}) == 3
    assert fitted.recipe.memory.stored == "int8" and isinstance(fitted.codec, Tiled)
    assert bundle_cost(fitted).fit == fitted.fit
    assert fitted.codec.fingerprint != plain.codec.fingerprint
