"""What is in memory at every chunk, where it stands in time, and that nothing ever grows or moves."""

from dataclasses import replace

import pytest
import torch

from gf_core.config import MemorySpec
from gf_core.errors import GroundedError
from gf_core.memory.presets import PRESETS
from gf_core.memory.regions import Layout, positions
from gf_core.memory.snapshots import restore, snapshot
from gf_core.rope import rotate, turns

FROZEN = MemorySpec(anchor_policy="frozen", anchor_update="never")


def rolling(window: int, sink: int) -> MemorySpec:
    base = PRESETS["self_forcing_rolling"]
    return replace(base, anchors=sink, recent=window - sink - 3)


@pytest.mark.parametrize(
    ("window", "sink", "seen"),
    [
        (12, 3, {0: [(0, 2)], 1: [(0, 5)], 3: [(0, 11)], 4: [(0, 2), (6, 14)], 7: [(0, 2), (15, 23)]}),
        (9, 3, {2: [(0, 8)], 3: [(0, 2), (6, 11)], 5: [(0, 2), (12, 17)], 7: [(0, 2), (18, 23)]}),
        (6, 1, {1: [(0, 5)], 2: [(0, 0), (4, 8)], 3: [(0, 0), (7, 11)], 7: [(0, 0), (19, 23)]}),
        (21, 0, {5: [(0, 17)], 7: [(3, 23)]}),
        (7, 2, {1: [(0, 5)], 2: [(0, 1), (4, 8)], 3: [(0, 1), (7, 11)]}),
    ],
)
def test_rolling_window_contents(film, window, sink, seen):
    """Frames that block b attends to, as simulated from the reference's token arithmetic."""
    run = film(rolling(window, sink))
    for block in range(8):
        run.chunk()
        if block in seen:
            want = [n for first, last in seen[block] for n in range(first, last + 1)]
            assert run.stored() == run.memory.ledger.numbers() == want


def test_one_frame_first_block(film):
    """A first block of one frame makes the first eviction smaller than a chunk; the sink is still frames 0 to 2."""
    run = film(rolling(9, 3))
    for block, frames in enumerate([1, 3, 3, 3, 3]):
        run.chunk(frames)
        if block == 3:
            assert run.stored() == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert run.stored() == [0, 1, 2, 7, 8, 9, 10, 11, 12]


def test_grounded_window_trace(film):
    """Regions and positions while block b is denoised (the paper's geometry, three anchors at position 0)."""
    spec = MemorySpec(anchor_update="never")
    run = film(spec)
    trace = {0: (0, 0), 1: (0, 3), 2: (0, 6), 3: (3, 6), 4: (3, 6), 9: (3, 6)}
    for block in range(10):
        run.memory.evict(spec.recent)
        if block in trace:
            assert run.memory.layout == Layout(*trace[block])
        at = positions(spec, replace(run.memory.layout, current=3), range(99))
        assert at == (tuple(range(3 * block + 3)) if block < 3 else (0, 0, 0, *range(3, 12)))
        run.chunk()
    assert run.anchors() == [[0, 1, 2]]
    run.memory.evict(keep=0)  # a cut
    assert run.memory.layout == Layout(3, 0)
    assert positions(spec, Layout(3, 0, 3), []) == (0, 0, 0, 3, 4, 5)
    run.chunk()
    run.memory.evict(spec.recent)
    assert positions(spec, replace(run.memory.layout, current=3), []) == (0, 0, 0, 3, 4, 5, 6, 7, 8)


def test_cut_before_there_are_anchors_promotes_first(film):
    run = film(FROZEN)
    run.chunk()
    run.memory.evict(keep=0)
    assert run.memory.layout == Layout(3, 0) and run.stored() == [0, 1, 2]
    run = film(replace(FROZEN, anchors=3))
    run.chunk(1)
    run.memory.evict(keep=0)
    assert run.memory.layout == Layout(1, 0)  # what there is


def test_no_anchors_at_all(film):
    run = film(MemorySpec(anchor_policy="none", anchor_update="never"))
    run.chunks(5)
    run.memory.evict(6)
    assert run.stored() == [9, 10, 11, 12, 13, 14]


@pytest.mark.parametrize(("newest", "first"), [(11, 3), (20, 12), (21, 12), (9999, 12)])
def test_top_aligned_positions_are_frame_numbers_up_to_the_top_of_the_range(newest, first):
    numbers = [0, 1, 2, *range(newest - 8, newest + 1)]
    assert positions(PRESETS["sgf"], Layout(3, 6, 3), numbers) == (0, 1, 2, *range(first, first + 9))


def test_absolute_positions_are_frame_numbers():
    spec = rolling(9, 3)
    assert positions(spec, Layout(3, 3, 3), [0, 1, 2, 30, 31, 32, 33, 34, 35])[3:] == (30, 31, 32, 33, 34, 35)


def test_slot_index_numbers_the_anchors():
    spec = replace(MemorySpec(), anchor_index="slot")
    assert positions(spec, Layout(3, 6, 3), []) == tuple(range(12))


def test_rotated_keys_stand_where_the_layout_says(film):
    """Raw keys rotated at read equal keys rotated when written, and anchors stand at 0 at any time of the film."""
    run = film(MemorySpec(anchor_update="never"))
    memory = run.memory
    run.chunks(40)
    memory.evict(6)
    memory.open(3)
    turn = turns(torch.tensor([0, 0, 0, 3, 4, 5, 6, 7, 8]), 1, 2, 6)
    used = memory.layout.past * memory.tokens_per_frame
    for layer in range(2):
        torch.testing.assert_close(memory.k[layer, :, :used], rotate(memory.raw_k[layer, :, :used], turn))


def buffers(memory):
    return [memory.raw_k, memory.k, memory.v, memory.anchor_latents, memory.history, *memory.means]


@pytest.mark.parametrize("name", ["grounded", "longlive"])
def test_a_thousand_chunks_neither_grow_nor_move(film, name):
    run = film(PRESETS[name])
    run.chunk()
    before = [(b.data_ptr(), b.shape) for b in buffers(run.memory)]
    for chunk in range(1000):
        run.chunk()
        if chunk % 100 == 50:
            run.memory.ledger.prompt += 1
    assert [(b.data_ptr(), b.shape) for b in buffers(run.memory)] == before
    assert len(run.memory.ledger.recent) <= run.memory.spec.recent + 3
    assert run.memory._turn.cache_info().currsize <= 8
    assert run.memory.ledger.frame == 3003


def test_views_are_idempotent(film):
    """Opening and writing the same chunk again leaves bookkeeping as it was and memory bit-identical."""
    run = film(FROZEN)
    run.chunks(5)
    run.memory.evict(6)
    before = (
        run.memory.ledger.numbers(),
        run.memory.ledger.frame,
        run.memory.raw_k.clone(),
        run.memory.v.clone(),
    )
    for _ in range(2):
        steps, _ = run.memory.open(3)
        steps.write(0, torch.randn(1, 6, 2, 6), torch.randn(1, 6, 2, 6))
    used = run.memory.layout.past * run.memory.tokens_per_frame
    assert (run.memory.ledger.numbers(), run.memory.ledger.frame) == before[:2]
    assert torch.equal(run.memory.raw_k, before[2])
    assert torch.equal(run.memory.v[:, :, :used], before[3][:, :, :used])


def test_a_view_tells_all_that_it_leaves_behind(film):
    """By which a replayed call is compared with one that was made: raw keys, too, where they are kept."""
    run = film(MemorySpec())
    run.chunk()
    memory, ones = run.memory, torch.ones(1, 6, 2, 6)
    for view, stores in zip(memory.open(3), (1, 2), strict=True):
        for store in (memory.raw_k, memory.v):
            store.zero_()
        for layer in range(2):
            view.write(layer, ones, ones)
        written = view.written()
        assert len(written) == 2 * stores and all((store == 1).all() for store in written)
        assert memory.raw_k.sum() + memory.v.sum() == sum(store.numel() for store in written)


def test_running_mean(film):
    """Reward Forcing: the sink is frames 0 to 2, then each evicted chunk is folded in with weight 0.001."""
    run = film(PRESETS["reward_forcing"])
    run.chunks(5)
    mean = torch.tensor([1.0, 2.0, 3.0])
    for chunk in (1, 2, 3):
        mean = 0.999 * mean + 0.001 * torch.tensor([1.0, 2.0, 3.0]).add(3 * chunk)
    run.memory.evict(3)
    torch.testing.assert_close(run.memory.raw_k[0, 0, :6:2, 0, 0], mean)
    torch.testing.assert_close(run.memory.v[1, 0, :6:2, 1, 3], mean)


def test_running_mean_does_not_stall_in_bfloat16(film):
    """A step of 0.001 is below bfloat16's resolution; the float32 accumulator still moves."""
    run = film(PRESETS["reward_forcing"], dtype=torch.bfloat16)
    run.chunks(200)
    assert run.memory.raw_k[0, 0, 0, 0, 0].item() > 20


def test_running_mean_is_overwritten_by_another_count(film):
    run = film(replace(PRESETS["reward_forcing"], recent=2))
    run.chunk()
    run.chunk()
    run.memory.evict(2)  # fills 0, 1, 2 and drops frame 3 alone
    assert run.stored() == [3, 1, 2, 4, 5]


def test_snapshot_and_restore(film):
    spec = MemorySpec(anchor_update="every_chunk")
    run, other = film(spec, batch=2), film(spec, batch=2)
    torch.manual_seed(0)
    latents = torch.randn(8, 2, 3, 2, 2, 4)
    for z in latents[:6]:
        run.chunk(latents=z)
    state = snapshot(run.memory)
    held = {name: value.clone() for name, value in state.items()}
    pointer = other.memory.raw_k.data_ptr()
    restore(other.memory, state)
    assert other.memory.raw_k.data_ptr() == pointer
    for z in latents[6:]:
        run.chunk(latents=z)
        other.chunk(latents=z)
    assert all(torch.equal(state[name], held[name]) for name in held)  # a snapshot is a copy
    after, twin = snapshot(run.memory), snapshot(other.memory)
    assert after.keys() == twin.keys() and all(torch.equal(after[n], twin[n]) for n in after)


FOREIGN = {
    "fewer layers": ("raw_k", lambda x: x[:1]),
    "more layers": ("raw_k", lambda x: torch.cat([x, x])),
    "fewer heads": ("raw_k", lambda x: x[:, :, :, :1]),
    "more heads": ("raw_k", lambda x: torch.cat([x, x], dim=3)),
    "narrower heads": ("raw_k", lambda x: x[..., :4]),
    "wider heads": ("raw_k", lambda x: torch.cat([x, x], dim=4)),
    "more samples": ("history", lambda x: torch.cat([x, x])),
    "another height": ("history", lambda x: torch.cat([x, x], dim=3)),
    "another width": ("history", lambda x: x[..., :2]),
}
"""What is foreign about a snapshot: the tensor in it, and what becomes of that."""


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_snapshot_is_refused(film, name):
    run, other = film(FROZEN), film(FROZEN)
    run.chunk()
    state = snapshot(run.memory)
    restore(other.memory, state)
    tensor, change = FOREIGN[name]
    with pytest.raises(GroundedError, match="does not fit"):
        restore(other.memory, {**state, tensor: change(state[tensor])})


def test_a_scene_leaves_no_latents_of_the_one_before(film):
    """What is gone on with behind a scene, without a replay of what lies in front of it, is the same state."""
    run, fresh = film(MemorySpec()), film(MemorySpec())
    run.chunks(4)
    fresh.memory.ledger.skip(12, 0)
    for one in (run, fresh):
        one.memory.clear()
        one.chunk()
    mine, theirs = snapshot(run.memory), snapshot(fresh.memory)
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("tensor", ["raw_k", "history"])
def test_a_snapshot_that_lacks_a_part_is_refused(film, tensor):
    state = snapshot(film(FROZEN).memory)
    del state[tensor]
    with pytest.raises(GroundedError, match="does not fit"):
        restore(film(FROZEN).memory, state)


def test_impossible_settings_are_refused(film):
    with pytest.raises(GroundedError, match="models have learned 21"):
        film(replace(FROZEN, recent=16))
    with pytest.raises(GroundedError, match="impossible"):
        film(replace(FROZEN, chunk=0))
    for share in (-0.001, 1.001):
        for name in ("alpha_max", "ema_keep"):
            with pytest.raises(GroundedError, match="shares"):
                film(replace(FROZEN, **{name: share}))
    for share in (0.0, 1.0):
        film(replace(FROZEN, alpha_max=share, ema_keep=share))
    for name in ("anchors", "recent"):
        with pytest.raises(GroundedError, match="impossible"):
            film(replace(FROZEN, **{name: -1}))
    with pytest.raises(GroundedError, match="several samples"):
        film(replace(MemorySpec(), positions="absolute", max_position=None), batch=2)
    with pytest.raises(GroundedError, match="does not fit"):
        film(FROZEN).memory.open(4)
    limited = film(replace(PRESETS["longlive"], max_position=7))
    limited.chunk()
    limited.chunk()
    with pytest.raises(GroundedError, match="position 8"):
        limited.chunk()
