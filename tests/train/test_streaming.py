"""Long films learned piece by piece: how they are cut, what of them is learned, and that they go on after a break."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from gf_core.config import MemorySpec, Recipe, SampleSpec
from gf_core.memory.presets import PRESETS
from gf_core.model import layers
from gf_core.train.films import Cue
from gf_core.train.objectives.dmd import critic, dmd, sid
from gf_core.train.objectives.scores import Matching
from gf_core.train.past import Past
from gf_core.train.rollout import RolloutSpec
from gf_core.train.streaming import Stream, StreamSpec, next_piece

from .conftest import drawn, engine
from .fixed import RandomDraws

LONG = replace(PRESETS["longlive"], recache_reach=9)
SHORT = StreamSpec(longest=21, piece=6)
"""Films of 9, 15 and 21 frames."""


def test_pieces_have_the_published_lengths():
    film, spec, length, lengths = RolloutSpec(), StreamSpec(), 0, []
    while next_piece(length, film, spec, []).start or not length:
        piece = next_piece(length, film, spec, [])
        assert sum(piece.learned) == piece.stop - piece.start and len(piece.learned) == 21
        length = piece.stop
        lengths.append(length)
    assert lengths == list(range(21, 238, 18))
    assert next_piece(21, film, StreamSpec(longest=39), []).stop == 39, "the longest is reached"


def test_blocks_before_a_switch_inside_a_piece_have_no_gradient():
    assert next_piece(111, RolloutSpec(), StreamSpec(), [39]).learn_from == 117
    assert next_piece(111, RolloutSpec(), StreamSpec(), [37]).learn_from == 111


@pytest.fixture
def stream():
    def make(memory=LONG, spec=SHORT, **changes):
        recipe = Recipe(memory, SampleSpec(steps=(1000, 500)))
        return Stream(RolloutSpec(recipe, frames=9, window=9, **changes), spec)

    return make


class Noted(RandomDraws):
    """Draws that are remembered, at the last step."""

    def __init__(self, seed):
        super().__init__(*(torch.Generator().manual_seed(seed) for _ in range(2)))
        self.kept = {}

    def whole(self, name, low, high):
        return high - 1

    def normal(self, name, shape):
        self.kept[name] = super().normal(name, shape)
        return self.kept[name]


@pytest.mark.parametrize(
    ("memory", "verb"),
    [(LONG, "then"), (MemorySpec(anchors=2, recent=3), "then"), (MemorySpec(anchors=2, recent=3), "cut")],
)
def test_pieces_together_are_the_engine_s_film(nets, films, stream, memory, verb):
    """A switch at a piece's begin and inside one, over recaches, cuts and evictions."""
    cues = {3: Cue(verb, films.prompts[1]), 6: Cue("then", films.prompts[2])}
    long, made, noises = stream(memory, context_noise=False), [], []
    for seed in range(3):
        draws = Noted(seed)
        _, window = long.advance(nets.generator, films.batch(cues=cues, draws=draws))
        new = 9 if not seed else 6
        made.append(window.latents[:, -new:].detach())
        assert window.latents.requires_grad
        noises += drawn(draws.kept)
    wanted = engine(nets.generator, long.film.recipe, films.prompts[0], cues, noises)
    torch.testing.assert_close(torch.cat(made, 1), wanted, atol=1e-5, rtol=1e-5)


def test_only_new_frames_count_and_the_prompt_in_force_judges(nets, films, stream):
    cues, long = {3: Cue("then", films.prompts[1])}, stream()
    told = {}
    first = dmd(nets, films.batch(cues=cues), long, Matching(), told.__setitem__)
    first.total.backward()
    begin = told["window"]
    batch, window = long.advance(nets.generator, films.batch(seed=9))
    assert window.learned.tolist() == [False] * 3 + [True] * 6
    assert torch.equal(window.latents[:, :3], begin[:, -3:])
    assert batch.told is films.prompts[1]
    loss = critic(nets, films.batch(), long, Matching(), told.__setitem__)
    assert long.length == 21 and loss.total.requires_grad
    long.advance(nets.generator, films.batch())
    assert long.films == 2 and long.length == 9


def test_score_identity_learns_from_pieces_too(nets, films, stream):
    long = stream()
    for seed in range(2):
        sid(nets, films.batch(seed), long, Matching()).total.backward()
    assert long.length == 15 and all(p.grad is None for p in nets.fake.parameters())
    assert any(p.grad is not None and p.grad.any() for p in nets.generator.parameters())


@pytest.mark.parametrize("context", ["leaky", "replay"])
def test_gradients_end_where_a_piece_begins(nets, films, stream, context):
    long = stream(context_gradient=context)
    for seed in range(2):  # the second would ask for what the first has freed
        long.advance(nets.generator, films.batch(seed))[1].latents.sum().backward()


@pytest.mark.parametrize("context", ["leaky", "replay"])
def test_layers_computed_again_leave_the_memory_alone(nets, films, stream, context, monkeypatch):
    """Activation checkpoints run every layer once more in backward, when the film has gone on."""
    again = partial(checkpoint, layers.run_block, use_reentrant=False)
    monkeypatch.setattr(type(nets.generator.blocks[0]), "forward", lambda self, *given: again(self, *given))
    long = stream(context_gradient=context)
    window = long.advance(nets.generator, films.batch())[1]
    memory = long.sampler.director.memory
    before = [memory.raw_k.clone(), memory.v.clone()]
    frames = [list(made) for made in memory.gradients.graph]
    window.latents.square().sum().backward()
    assert all(map(torch.equal, before, [memory.raw_k, memory.v]))
    assert frames == [list(made) for made in memory.gradients.graph]
    assert not any(memory.ledger.frame in leaks for leaks in memory.gradients.leaks)


def test_a_window_inside_a_film_begins_as_a_clip(nets, films, stream):
    seen = []

    def first(latents):
        seen.append(latents.shape[1])
        return latents[:, -1:] + 5

    long = stream(first_frame=first)
    kept = long.advance(nets.generator, films.batch())[1].latents
    again = long.advance(nets.generator, films.batch())[1].latents
    assert seen == [7]
    torch.testing.assert_close(again[:, 0], kept[:, 6] + 5)
    torch.testing.assert_close(long.tail[:, :3], kept[:, 6:])  # the film itself goes on without


@pytest.mark.parametrize("past", [None, Past(sink=1, slow=1, fast=2, every=2)], ids=["window", "past"])
def test_a_stream_goes_on_after_a_break_bit_by_bit(nets, films, stream, past):
    """With all that losses see of the film so far."""
    cues, stream = {4: Cue("then", films.prompts[1])}, partial(stream, past=past)
    whole, broken = stream(), stream()
    for long in (whole, broken):
        long.advance(nets.generator, films.batch(cues=cues))
    fresh = stream()
    fresh.restore(broken.snapshot(), nets.generator, films.batch(seed=50))
    for seed in (3, 4, 5):
        told, window = whole.advance(nets.generator, films.batch(seed=seed))
        other, theirs = fresh.advance(nets.generator, films.batch(seed=seed))
        assert torch.equal(window.latents, theirs.latents) and torch.equal(told.told, other.told)
    assert fresh.films == whole.films == 2


def test_old_anchors_become_zeros_that_stay(nets, films, stream):
    """LongLive's training: a recache reaches so many frames back, and nothing is left of the anchors before."""
    for switch, gone in ((3, False), (5, True)):
        long = stream()
        for seed in range(3):
            long.advance(nets.generator, films.batch(seed, cues={switch: Cue("then", films.prompts[1])}))
        memory = long.sampler.director.memory
        anchors = memory.raw_k[:, :, : 3 * memory.tokens_per_frame]
        assert bool((anchors == 0).all()) is gone
