"""On a card, which need not be there, nothing is computed of tensors that lie apart, and chunks wait for no value."""

import copy
from dataclasses import replace

import pytest
import torch

from gf_core.config import Recipe, SampleSpec
from gf_core.memory.presets import PRESETS
from gf_core.model.offload import Streamed
from gf_core.sampling.chunkwise import make_sampler
from gf_core.sampling.film import Cues, film_chunks
from gf_core.sampling.sampler import Chunk

from ..heads import PICKING
from .conftest import HEIGHT, SPEC, STEPS, WIDTH
from .test_rolling import plan_of

TEXT = """a fox | 2.25s
then: it jumps | 0.75s
cut: a hen | 0.75s
scene: a fox | 0.75s
back to 1: a hen | 0.75s | motion"""
MEMORIES = {
    **PRESETS,
    "int8": replace(PRESETS["grounded"], stored="int8"),
    "heads that pick": replace(PRESETS["sgf"], **PICKING),
}


# Each has something that is its own: places, a bank, means, a refresh, chunks together, sparse or packed memory, heads.
SHORT = (
    "grounded",
    "context_forcing",
    "memrope",
    "krea",
    "rolling_forcing",
    "light_forcing",
    "int8",
    "heads that pick",
)


@pytest.mark.parametrize(
    "name", [name if name in SHORT else pytest.param(name, marks=pytest.mark.slow) for name in MEMORIES]
)
def test_every_memory_keeps_to_the_card(model, prompts, card, name):
    films = []
    for place in ("cpu", card):
        tree = copy.deepcopy(model).to(place)
        recipe = Recipe(MEMORIES[name], SampleSpec(steps=STEPS))
        run = make_sampler(tree, SPEC, recipe, latent_height=HEIGHT, latent_width=WIDTH)
        with torch.no_grad():
            films.append(
                [clean.latents for clean in film_chunks(run, Cues(plan_of(TEXT), prompts + prompts[:2]))]
            )
        state = run.snapshot()
    assert all(chunk.is_cuda for chunk in films[1])
    assert all(map(torch.equal, films[0], (chunk.cpu() for chunk in films[1])))
    run.restore(state)


def test_a_chunk_waits_for_no_value(model, prompts, card):
    """As `test_no_device_synchronisation_inside_a_chunk` asks a card that is there."""
    tree = copy.deepcopy(model).to(card)
    run = make_sampler(tree, SPEC, Recipe(), latent_height=HEIGHT, latent_width=WIDTH)
    run.director.start(prompts[0])
    noise = torch.randn(1, 3, SPEC.in_dim, HEIGHT, WIDTH).to(card)
    with torch.no_grad():
        for index in range(4):
            list(run.feed(Chunk(index, lambda step: noise)))
        torch.cuda.set_sync_debug_mode("error")
        list(run.feed(Chunk(4, lambda step: noise)))
        with pytest.raises(RuntimeError, match="synchronizing"):
            noise.sum().item()


def test_what_lies_apart_is_refused(card):
    there, here = torch.ones(2, device="cuda"), torch.ones(2)
    assert there.is_cuda and (there + there.to(card)).cpu().tolist() == [2, 2]
    with pytest.raises(RuntimeError, match="same device"):
        there + here
    with pytest.raises(RuntimeError, match="same device"):
        torch.where(there > 0, there, here)


def test_blocks_that_wait_outside_come_to_the_card_in_time(model, prompts, card):
    films = []
    for away in ([], [0, 1]):
        tree = copy.deepcopy(model).to(card)
        if away:
            tree.blocks.cpu()
            tree.blocks = Streamed(tree.blocks, away, card)
        run = make_sampler(tree, SPEC, Recipe(), latent_height=HEIGHT, latent_width=WIDTH)
        with torch.no_grad():
            made = film_chunks(run, Cues(plan_of("a fox | 3s"), prompts[:1]))
            films.append([clean.latents.cpu() for clean in made])
    assert all(map(torch.equal, *films))
