from functools import partial

import pytest
import torch

from gf_core.config import MemorySpec, ModelSpec, Recipe, SampleSpec
from gf_core.model.wan import WanModel
from gf_core.sampling.chunkwise import make_sampler
from gf_core.sampling.noise import chunk_noise
from gf_core.sampling.sampler import Chunk

SPEC = ModelSpec(
    dim=24, ffn_dim=32, num_heads=2, num_layers=2, in_dim=4, out_dim=4, text_len=5, text_dim=8, freq_dim=16
)
HEIGHT, WIDTH = 2, 4
STEPS = (1000, 750, 500)


@pytest.fixture(scope="session")
def model():
    torch.manual_seed(0)
    tree = WanModel(SPEC).eval().requires_grad_(False)
    for parameter in tree.parameters():
        parameter.copy_(torch.randn_like(parameter) * 0.2 + (parameter.ndim == 1) * 0.5)
    return tree


@pytest.fixture(scope="session")
def prompts():
    """Prompts of different lengths [1 rows text_dim]."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(1, rows, SPEC.text_dim, generator=generator) for rows in (3, 5, 2)]


class Film:
    """A sampler of the tiny model with noise of its own."""

    def __init__(self, model, memory=None, *, sample=None, batch=1, seed=7):
        self.sampler = make_sampler(
            model,
            SPEC,
            Recipe(memory or MemorySpec(), sample or SampleSpec(steps=(1000, 500))),
            latent_height=HEIGHT,
            latent_width=WIDTH,
            batch=batch,
        )
        self.director = self.sampler.director
        self.batch, self.seed, self.chunks = batch, seed, 0

    def chunk(self, frames=3, on_step=None):
        shape = (self.batch, frames, SPEC.in_dim, HEIGHT, WIDTH)
        noise = partial(chunk_noise, self.seed, self.chunks, shape=shape)
        (clean,) = self.sampler.feed(Chunk(self.chunks, noise), on_step)
        self.chunks += 1
        return clean.latents

    def begin(self, prompt, chunks):
        """Start with a prompt and make so many chunks."""
        self.director.start(prompt)
        for _ in range(chunks):
            self.chunk()


@pytest.fixture
def film(model):
    def make(memory=None, **options):
        return Film(model, memory, **options)

    return make


@pytest.fixture
def sampler(model):
    """A sampler of three steps for a memory."""

    def make(memory, **placed):
        recipe = Recipe(memory, SampleSpec(steps=STEPS))
        return make_sampler(model, SPEC, recipe, latent_height=HEIGHT, latent_width=WIDTH, **placed)

    return make


@pytest.fixture
def embeds(prompts):
    """Those of a film of four segments."""
    return [prompts[number % 3] for number in range(4)]
