"""Wave Forcing: a move is one call in which no chunk sees the noisier ones; ranks that share it change no bit."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from gf_core.checkpoints.networks import Networks
from gf_core.config import Recipe, SampleSpec
from gf_core.engine.follow import follow
from gf_core.errors import GroundedError
from gf_core.memory.checks import check
from gf_core.memory.presets import PRESETS
from gf_core.model.forward import Call
from gf_core.rope import rotate, turns
from gf_core.sampling.film import Cues, film_chunks
from gf_core.sampling.split import check_split

from ..ranks import lead
from .conftest import HEIGHT, SPEC, STEPS, WIDTH
from .test_rolling import plan_of

WAVE = PRESETS["wave_forcing"]
MEMORIES = {
    "wave": replace(WAVE, switch="apr", anchor_policy="diversity", anchor_update="every_chunk"),
    "short, packed": replace(WAVE, recent=6, rolling=15, switch="recache", stored="int8"),
}
SIZE = {"latent_height": HEIGHT, "latent_width": WIDTH}
TEXT = "a fox | 4.5s\nthen: it jumps | 3s | blend 1.5s\ncut: a hen | 0.75s\nback to 1: it sits | 3s"


class Masked:
    """Self-attention of one call over several chunks of three frames, of which each sees itself and those before it."""

    def __init__(self, memory, first):
        layout = memory.layout
        kept = [*range(layout.anchors), *range(first, layout.past)]
        self.memory, self.tokens, self.grid = memory, memory.tokens_per_frame, memory.grid
        self.slots = [slot * self.tokens + token for slot in kept for token in range(self.tokens)]

    def attend(self, layer, q, raw_k, v):
        past = [store[layer][:, self.slots] for store in (self.memory.raw_k, self.memory.v)]
        k, v = torch.cat([past[0], raw_k], 1), torch.cat([past[1], v], 1)
        turn = turns(torch.arange(k.shape[1] // self.tokens), *self.grid, SPEC.head_dim)
        q, k = rotate(q, turn[-q.shape[1] :]), rotate(k, turn)
        chunk = torch.arange(k.shape[1]) // (3 * self.tokens)
        mask = chunk[-q.shape[1] :, None] >= chunk
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)

    def write(self, layer, raw_k, v):
        raise AssertionError("it computes a flow")


@torch.no_grad()
def test_a_move_is_a_call_that_no_chunk_sees_noisier_ones_in(sampler, embeds):
    run, plan, told = sampler(WAVE), plan_of("a fox | 12s", WAVE), []
    run.director.watch = told.append
    for clean in film_chunks(run, Cues(plan, embeds)):
        if clean.index == 10:
            break
    # Of the move that wrote chunk 10.
    latest = [trace for trace in told if trace.kind == "denoise"][-len(STEPS) :]
    assert [trace.step for trace in latest] == [2, 1, 0]
    director, memory = run.director, run.director.memory
    x = torch.cat([trace.latents for trace in latest], 1)
    time = director.time(*(run.levels[trace.step].timestep for trace in latest for _ in range(3)))
    assert memory.layout.recent == WAVE.recent  # the chunk that was being written counts among them
    seen = 21 - 3 - 3 * len(STEPS)  # frames of recent memory, chunk 10 among them
    wanted = Call(director.model, x, time, director._text, Masked(memory, memory.layout.past - seen)).run()
    assert wanted is not None
    flow = torch.cat([trace.flow for trace in latest], 1)
    assert (flow - wanted).norm() < 2e-6 * wanted.norm()


@torch.no_grad()
def films(networks, embeds, names, team=None):
    """By memory, latents of a film's chunks, its state in the midst, and the chunks after it was gone on with."""
    found = {}
    for name in names:
        memory, states = MEMORIES[name], []
        plan = plan_of(TEXT, memory)
        run = wave_of(networks, memory, team)
        made = film_chunks(
            run, Cues(plan, embeds), before=lambda index, run=run, kept=states: kept.append(run.snapshot())
        )
        chunks = [clean.latents for clean in made]
        run.restore(states[5])
        start = next(index for index in range(6) if run.holds(index))
        more = film_chunks(run, Cues(plan, embeds), start=start, stop=6)
        found[name] = chunks, states[5], [clean.latents for clean in more]
    return found


def wave_of(networks, memory, team):
    recipe = Recipe(memory, SampleSpec(steps=STEPS))
    with contextlib.nullcontext() if team is None else team.agreed("make", recipe, **SIZE):
        return networks.sampler(recipe, **SIZE, team=team)


@pytest.mark.parametrize(
    ("ranks", "names"),
    [
        (2, ["wave"]),
        (4, ["wave"]),
        pytest.param(2, ["short, packed"], marks=pytest.mark.slow),
        pytest.param(3, ["wave", "short, packed"], marks=pytest.mark.slow),
        pytest.param(4, ["short, packed"], marks=pytest.mark.slow),
    ],
)
def test_ranks_that_share_calls_change_no_bit(model, embeds, tmp_path, ranks, names):
    networks = Networks(model, None, SPEC)
    work = partial(films, networks, embeds, names)
    got = lead(ranks, tmp_path, work, partial(follow, networks=networks))
    for name, (chunks, state, again) in work().items():
        mine, left, more = got[name]
        for index, (one, shared) in enumerate(zip([*chunks, *again], [*mine, *more], strict=True)):
            assert torch.equal(one, shared), (name, index)
        assert all(torch.equal(one, chunks[index]) for index, one in enumerate(again, 2)), "gone on with"
        assert left.keys() == state.keys()
        assert all(torch.equal(left[part], value) for part, value in state.items()), name


RANKS, FED = 3, 9


@torch.no_grad()
def told(networks, embeds, folder, team):
    """What every rank has sent for a film of one shot; the first one's embeddings are not counted."""
    if team.first:
        run = wave_of(networks, WAVE, team)
        list(film_chunks(run, Cues(plan_of(f"a fox | {0.75 * FED}s", WAVE), embeds)))
        torch.save(team.sent - embeds[0].nbytes * (RANKS - 1), folder / "0.pt")
        return
    follow(team, networks)
    torch.save(team.sent, folder / f"{team.rank}.pt")


def test_as_many_bytes_are_sent_as_the_page_says(model, embeds, tmp_path):
    """docs/several-cards.md says it of a full window; a shot's first and last moves have shorter ones."""
    work = partial(told, Networks(model, None, SPEC), embeds, tmp_path)
    lead(RANKS, tmp_path, work, work)
    steps, others, width = len(STEPS), RANKS - 1, 4
    keys = 2 * 3 * HEIGHT * WIDTH // 4 * SPEC.dim * SPEC.num_layers * width
    latents, wanted = 3 * SPEC.in_dim * HEIGHT * WIDTH * width, 0
    for move in range(FED + steps):
        calls = [move - fed for fed in range(FED) if 0 <= move - fed <= steps]
        for place, step in enumerate(calls):
            wanted += keys * (others if step == steps else min(others, len(calls) - 1 - place))
            wanted += latents * (others + (place % RANKS > 0 and step < steps))
    assert sum(torch.load(tmp_path / f"{rank}.pt") for rank in range(RANKS)) == wanted


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"rolling": None, "recent": 6}, "is one of chunks"), ({"cut_position": 45}, "apart after a cut")],
)
def test_what_a_wave_cannot_be_is_said(wrong, words):
    with pytest.raises(GroundedError, match=words):
        check(replace(WAVE, **wrong))


def test_more_ranks_than_calls_are_refused():
    recipe = Recipe(WAVE, SampleSpec(steps=STEPS))
    check_split(SPEC, recipe, HEIGHT, 4)
    with pytest.raises(GroundedError, match="5 ranks cannot share the 4 calls") as told:
        check_split(SPEC, recipe, HEIGHT, 5)
    assert "--nproc-per-node 4" in told.value.fix
