from functools import partial

import pytest
import torch

from gf_core.checkpoints.model_bundle import ModelBundle
from gf_core.config import MemorySpec, ModelSpec, Recipe, SampleSpec
from gf_core.model.wan import WanModel
from gf_core.sampling.chunkwise import make_sampler
from gf_core.sampling.film import carry_out
from gf_core.sampling.sampler import Chunk
from gf_core.train import rollout
from gf_core.train.films import FilmBatch
from gf_core.train.objectives.scores import Nets
from gf_core.train.recipes import matching
from gf_core.train.recompute import recompute
from gf_core.train.rollout import RolloutSpec, roll_out

from .fixed import RandomDraws

TINY = ModelSpec(
    dim=24, ffn_dim=32, num_heads=2, num_layers=2, in_dim=4, out_dim=4, text_len=6, text_dim=8, freq_dim=16
)


def net(seed):
    """A tiny network of weights that matter."""
    torch.manual_seed(seed)
    tree = WanModel(TINY).eval()
    for p in tree.parameters():
        torch.nn.init.normal_(p, std=0.2)
    return tree


@pytest.fixture
def nets():
    return Nets(*(net(seed) for seed in range(3)))


class Films:
    """Batches whose draws are the same every time, and settings of films of five chunks."""

    memory = MemorySpec(anchors=1, recent=3)

    def __init__(self):
        generator = torch.Generator().manual_seed(5)
        self.prompts = [torch.randn(1, rows, 8, generator=generator) for rows in (3, 4, 2)]

    def batch(self, seed=1, cues=None, draws=None):
        draws = draws or RandomDraws(*(torch.Generator().manual_seed(seed + n) for n in range(2)))
        return FilmBatch(self.prompts[0], self.prompts[2], (4, 2, 4), draws, cues or {})

    def spec(self, memory=None, **changes):
        recipe = Recipe(memory or self.memory, SampleSpec(steps=(1000, 500)))
        return partial(RolloutSpec, recipe, frames=15, window=15)(**changes)


@pytest.fixture
def films():
    return Films()


def drawn(kept):
    """By chunk, the noise that a film of training has drawn for a step."""

    def of(block, first):
        return lambda step: kept[f"renoise.block{block}.step{step - 1}"] if step else first

    return [of(*numbered) for numbered in enumerate(kept["noise"].split(3, 1))]


@torch.no_grad()
def engine(net, recipe, prompt, cues, noises):
    """Latents of a film of chunks with this noise by the sampler that renders films."""
    sampler = make_sampler(net, net.spec, recipe, latent_height=2, latent_width=4)
    sampler.director.start(prompt)
    made = []
    for block, noise in enumerate(noises):
        if block in cues:
            made += sampler.flush()
            carry_out(sampler.director, cues[block].verb, cues[block].prompt, cues[block].recache)
        made += sampler.feed(Chunk(block, noise))
    made += sampler.flush()
    assert [one.index for one in made] == list(range(len(noises)))
    return torch.cat([one.latents for one in made], 1)


def check_recomputed(net, film, batch, memories):
    """Activation checkpoints: the same gradients to the bit, and a memory that backward leaves as it was."""

    def gradients():
        net.zero_grad()
        window = roll_out(net, film, batch())
        memory = memories.pop()
        before = [part.clone() for part in (memory.raw_k, memory.v)]
        past = [list(frames) for frames in (*memory.gradients.graph, *memory.gradients.banks)]
        window.latents.square().sum().backward()
        assert all(map(torch.equal, before, (memory.raw_k, memory.v)))
        assert past == [list(frames) for frames in (*memory.gradients.graph, *memory.gradients.banks)]
        return [p.grad.clone() for p in net.parameters() if p.grad is not None]

    plain = gradients()
    recompute(net.blocks)
    assert all(map(torch.equal, gradients(), plain))


@pytest.fixture
def memories(monkeypatch):
    """The memory of every film of training that was begun, in order."""
    found, make = [], rollout.sampler_for

    def kept(*given):
        found.append((sampler := make(*given)).director.memory)
        return sampler

    monkeypatch.setattr(rollout, "sampler_for", kept)
    return found


class Text:
    fingerprint = "text"

    def encode(self, prompts):
        return [torch.linspace(-1, 1, 8).repeat(1 + len(p) % 3, 1) * len(p) / 9 for p in prompts]


class Pictures:
    """Its frames are the latents' mean; so a first frame can be told."""

    channels, spatial_stride, time_stride, fingerprint = 4, 8, 4, "codec"

    def decoder(self):
        return self

    def decode(self, latents):
        return latents.mean(1)[..., None].expand(*latents.shape[:1], *latents.shape[2:], 3)

    def encode(self, frames):
        return frames[..., 0][:, None].expand(-1, 4, -1, -1)


def tiny(source, *, dtype=torch.float32, **more):
    torch.manual_seed({"student": 0, "teacher": 1}[source])
    model = WanModel(TINY).to(dtype)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.2)
    return ModelBundle(source, model, TINY, Text(), Pictures(), Recipe(), source)


@pytest.fixture
def given(tmp_path, monkeypatch):
    """Prompts in a folder that is the present one, and a tiny model behind every name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(matching, "load_model", tiny)
    (tmp_path / "a.txt").write_text("\n".join("fox" + "o" * n for n in range(7)))
    (tmp_path / "b.txt").write_text("\n".join("hen" + "e" * n for n in range(7)))
    return [
        "--data",
        "a.txt",
        "--model",
        "student",
        "--teacher",
        "teacher",
        "--device",
        "cpu",
        "--size",
        "32x16",
    ]
