"""The bank by hand: which frames each layer keeps, what the means come to, and where all of it stands."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gf_core.config import MemorySpec
from gf_core.errors import GroundedError
from gf_core.memory.checks import check
from gf_core.memory.heads import pick
from gf_core.memory.ledger import Frame
from gf_core.memory.presets import PRESETS
from gf_core.memory.snapshots import restore, snapshot

from .conftest import LATENT, MODEL, Film

CHANGES = replace(PRESETS["context_forcing"], anchors=1, bank=2, recent=3, bank_from=3)


def memory_of(spec, batch=1):
    return Film(spec, batch).memory


def chunk(memory, turned=(False, False), frames=3):
    """Commit a chunk whose keys tell their frame by size and point one way, or in `turned` layers the other way."""
    memory.evict(memory.spec.recent)
    _, clean = memory.open(frames)
    first, size = memory.ledger.frame, memory.tokens_per_frame
    numbers = (torch.arange(first, first + frames) + 1.0).repeat_interleave(size)[None, :, None, None]
    for layer in range(MODEL.num_layers):
        keys = numbers.repeat(1, 1, 2, 6) * (-1 if turned[layer] else 1)
        clean.write(layer, keys, keys)
    memory.commit(torch.zeros(1, frames, *LATENT))


def stored(memory, layer):
    used = memory.ledger.layer(layer).past * memory.tokens_per_frame
    assert torch.equal(memory.raw_k[layer], memory.v[layer])
    keys = memory.raw_k[layer, 0, : used : memory.tokens_per_frame, 0, 0]
    return [round(abs(key)) - 1 for key in keys.tolist()]


def test_each_layer_keeps_the_first_frames_of_its_own_changes():
    memory = memory_of(CHANGES)
    for turned in [(False, False), (False, False), (True, False), (False, True), (True, False)]:
        chunk(memory, turned)
        for layer in range(2):
            assert stored(memory, layer) == memory.ledger.numbers(layer)
    # Chunks 2 and 4 are compared with the one before; chunk 3 is not, though both layers turn in it.
    assert [[frame.number for frame in bank] for bank in memory.ledger.banks] == [[6, 12], [12]]
    memory.evict(3)
    assert memory.ledger.numbers(0) == [0, 6, 12, 12, 13, 14] and memory.ledger.numbers(1) == [
        0,
        12,
        12,
        13,
        14,
    ]
    step, _ = memory.open(3)
    assert [(place.start, place.stop) for place in step.places] == [(12, 18), (10, 16)]
    for turned in [(False, False), (True, False), (False, False), (False, False), (True, True)]:
        chunk(memory, turned)
    assert [frame.number for frame in memory.ledger.banks[0]] == [12, 18], "the oldest leaves"
    assert stored(memory, 0) == memory.ledger.numbers(0)


def test_anchors_move_in_front_of_a_bank_that_was_there_first():
    memory = memory_of(replace(CHANGES, anchors=2, recent=6))
    for turned in [(False, False), (False, False), (True, True), (True, True)]:
        chunk(memory, turned)
        for layer in range(2):
            assert stored(memory, layer) == memory.ledger.numbers(layer)
    assert memory.ledger.numbers() == [0, 1, 6, *range(3, 12)]


def test_two_means_begin_where_the_window_overflows_and_then_follow():
    memory = memory_of(replace(PRESETS["memrope"], anchors=1, recent=2, bank_shares=(0.25, 0.5)))
    for _ in range(2):
        chunk(memory)
    memory.evict(2)
    assert stored(memory, 0)[:1] == [0]
    # Frames 1 and 2 gave their slots to the means of what left then: frame 3 alone.
    assert stored(memory, 1) == [0, 3, 3, 4, 5]
    chunk(memory)
    memory.evict(2)
    means = memory.raw_k[0, 0, 2:6:2, 0, 0].tolist()
    left = (5 + 6 + 7) / 3  # frames 4, 5, 6
    assert means == pytest.approx([4 + 0.25 * (left - 4), 4 + 0.5 * (left - 4)])
    assert stored(memory, 0)[3:] == [7, 8]


def test_an_adaptive_mean_follows_where_the_keys_have_moved_most():
    memory = memory_of(replace(PRESETS["memrope_adaptive"], anchors=0, recent=1))
    bank, size = memory.bank, memory.tokens_per_frame
    memory.ledger.banks = [[Frame(0, 0), Frame(1, 0)]] * 2
    keys = torch.zeros(2, 1, size, 2, 6)
    keys[:, :, 1] = 1  # the first place stays, the second moves
    leaving = slice(2 * size, 3 * size)
    memory.raw_k[:, :, leaving], memory.v[:, :, leaving] = keys, 2 * keys
    bank.fold(1, begins=False)
    fast = bank.means[0][0, 0, size:, 0, 0].tolist(), bank.means[1][0, 0, size:, 0, 0].tolist()
    assert fast[0] == pytest.approx([0.0, 5 * 0.1]) and fast[1] == pytest.approx([0.0, 2 * 5 * 0.1])
    assert bank.means[0][0, 0, :size, 0, 0].tolist() == pytest.approx([0.0, 0.01])


def test_a_scene_leaves_no_trace_in_the_bank():
    memory, fresh = memory_of(CHANGES), memory_of(CHANGES)
    for turned in [(False, False), (False, False), (True, False)]:
        chunk(memory, turned)
    memory.clear()
    fresh.ledger.skip(9, 0)
    fresh.clear()
    for one in (memory, fresh):
        for turned in [(False, False), (True, True), (False, False)]:
            chunk(one, turned)
    theirs = snapshot(fresh)
    assert all(torch.equal(value, theirs[name]) for name, value in snapshot(memory).items())


def test_a_snapshot_says_nothing_of_what_lies_behind_a_shorter_bank():
    memory, twin = memory_of(CHANGES), memory_of(CHANGES)
    for store in (memory.raw_k, memory.v):
        store.fill_(99)  # as denoising steps leave it
    for turned in [(False, False), (False, False), (True, False)]:
        chunk(memory, turned)
    state = snapshot(memory)
    used = [memory.ledger.layer(layer).past * memory.tokens_per_frame for layer in range(2)]
    assert used[0] > used[1] and not state["raw_k"][1, :, used[1] :].any()
    restore(twin, state)
    for one in (memory, twin):
        chunk(one, (False, True))
        chunk(one, (True, False))
    other = snapshot(twin)
    assert all(torch.equal(value, other[name]) for name, value in snapshot(memory).items())


@pytest.mark.parametrize(
    "change",
    [
        {"bank": -1},
        {"bank": 3, "bank_policy": "means"},
        {"bank": 2, "bank_policy": "means", "positions": "absolute"},
        {"bank": 2, "bank_policy": "means", "anchor_policy": "ema"},
        {"bank": 4, "bank_every": 0},
        {"bank": 2, "bank_shares": (0.1, 1.5)},
        {"bank": 2, "switch": "recache", "recache_before_evict": True},
        {"bank": 12, "recent": 6},
        {"bank": 2, "refresh": True},
        {"refresh": True},
        {"refresh": True, "switch": "cross_only", "anchor_policy": "ema"},
        {"rolling": 5},
        {"rolling": 21, "cut_position": 45},
        {"heads": (((1, 1),),), "bank": 2},
    ],
)
def test_what_cannot_be_is_refused_in_words(change):
    with pytest.raises(GroundedError) as told:
        check(replace(MemorySpec(), **change))
    assert told.value.fix


def test_what_a_model_or_a_batch_rules_out_is_refused_in_words():
    with pytest.raises(GroundedError, match="use batch 1"):
        memory_of(CHANGES, batch=2)
    row = ((1, 1), (1, 1))
    for heads in [
        (((1, 1),),),
        (row,),
        (row, ((1, 1), (1,))),
        (row, ((1, -1), (1, 1))),
        (row, ((1, 1), (1, 4, 2))),
    ]:
        with pytest.raises(GroundedError, match="table of heads"):
            memory_of(replace(PRESETS["sgf"], heads=heads))
    memory_of(replace(PRESETS["sgf"], heads=(row, ((1, 1), (1, 3, 2)))))
    with pytest.raises(GroundedError, match="table of heads"):
        memory_of(replace(PRESETS["sgf"], heads=(row, ((1, 1), (1, 3, 2))), heads_runs=3))


def test_heads_pick_among_what_is_there():
    """Also in a film's second chunk and behind a cut, where too few frames lie before the newest ones."""
    row = ((1, 3), (1, 3, 2))
    spec = replace(PRESETS["self_forcing_rolling"], anchors=1, recent=6, heads=(row, row), heads_runs=2)
    memory, picked = memory_of(spec), []
    for number in range(7):
        if number == 4:
            memory.cut()
        memory.evict(spec.recent)
        step, _ = memory.open(3)
        parts = [part for place in step.places for group in place.heads for part in group.parts]
        assert all(0 <= start < stop for start, stop in parts)
        one, other = step.places[0].heads
        picked.append(one.parts != other.parts)
        chunk(memory)
    assert picked == [False, False, True, True, False, False, True]


def test_heads_pick_from_the_chunk_behind_the_first_of_their_table():
    row = ((1, 3), (1, 3, 2))
    spec = replace(PRESETS["self_forcing_rolling"], anchors=1, recent=6, heads=(row, row), heads_runs=2)
    memory, seen = memory_of(replace(spec, heads_from=3)), []
    for _ in range(6):
        memory.evict(spec.recent)
        step, _ = memory.open(3)
        parts = {group.parts for group in step.places[0].heads}
        seen.append({0: "all alike", 1: "by the table", 2: "picked"}[len(parts)])
        chunk(memory)
    assert seen == ["all alike"] * 3 + ["by the table", "picked", "picked"]


@pytest.mark.parametrize("name", PRESETS)
def test_a_state_takes_what_is_said_of_it(name):
    """What its few numbers take, the key that a bank compares with and latents while it is not full are not counted."""
    memory = memory_of(PRESETS[name])
    most = 1000 + memory.spec.bank * memory.sizes.latents
    for _ in range(12):
        memory.evict(memory.spec.recent)
        chunk(memory)
    taken = sum(tensor.nbytes for tensor in snapshot(memory).values())
    assert 0 <= taken - memory.sizes.state(memory.layout.past) < most


@pytest.mark.parametrize("name", PRESETS)
def test_a_state_of_few_frames_is_not_weighed_as_a_full_one(name):
    """Each frame brings its keys and its latent, and one that may be an anchor the anchor's latent."""
    memory = memory_of(PRESETS[name])
    sizes, capacity = memory.sizes, memory.spec.capacity
    keys = 0 if memory.spec.refresh else 2 * sizes.stored
    assert sizes.state(0) == sizes.means
    more = [sizes.state(frames) - sizes.state(frames - 1) for frames in range(1, memory.spec.slots + 1)]
    assert more == [keys + sizes.latents * (1 + (frame < capacity)) for frame in range(memory.spec.slots)]


def test_picked_runs_stand_in_their_order_however_unlike_they_are():
    """The later, the less like what follows: keys are read as they lie all the same."""
    spec = replace(PRESETS["self_forcing_rolling"], heads_runs=2)
    angle = torch.arange(4.0).square()[:, None].expand(4, 2) * 0.1 + torch.tensor([0.0, 0.05])
    angle[3, 1] += 0.2
    k = torch.stack([angle.cos(), angle.sin()], -1).reshape(1, 8, 1, 2)
    runs, alike = pick(k, 3, spec, 2, 3)
    assert alike.argsort().tolist()[:3] == [5, 4, 2] and runs == [(2, 3), (4, 5), (5, 6)]
