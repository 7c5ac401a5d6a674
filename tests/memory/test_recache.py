"""Shares of the proximity recache and what the blend leaves in memory."""

from dataclasses import replace

import pytest
import torch

from gf_core.config import MemorySpec
from gf_core.memory.recache import proximity, recache, recache_all
from gf_core.memory.snapshots import snapshot

THIRD = 1 / 3


@pytest.mark.parametrize(
    ("recent", "cap", "want"),
    [
        (6, 0.8, [0, 0.5 * THIRD, THIRD, 0.5, 2 * THIRD, 0.8]),
        (3, 0.8, [0.5, 2 * THIRD, 0.8]),  # partly filled: the newest shares of the full list
        (6, 1.0, [0, 0.5 * THIRD, THIRD, 0.5, 2 * THIRD, 2.5 * THIRD]),
        (6, 0.0, [0.0] * 6),
        (0, 0.8, []),
    ],
)
def test_proximity_shares(recent, cap, want):
    assert proximity(recent, 6, cap) == pytest.approx(want, abs=1e-9)


class Fresh:
    """Stands for the network: hands every layer keys and values of a constant; the last attends to nothing."""

    def __init__(self, value: float):
        self.value, self.frames = value, []

    def __call__(self, latents, view):
        self.frames.append([round(n) - 1 for n in latents[0, :, 0, 0, 0].tolist()])
        tokens = torch.full((1, latents.shape[1] * 2, 2, 6), self.value)
        view.attend(0, tokens, tokens, tokens)
        view.write(1, tokens, tokens)


def filled(film, spec=MemorySpec(), chunks=5):  # noqa: B008
    run = film(spec)
    run.chunks(chunks)
    return run


def test_blend_per_frame(film):
    run = filled(film)
    run.memory.evict(6)
    network = Fresh(100.0)
    recache(run.memory, network, 0.8)
    old = torch.arange(9, 15) + 1.0
    share = torch.tensor([0, 1 / 6, 1 / 3, 1 / 2, 2 / 3, 0.8])
    want = (1 - share) * old + share * 100
    assert network.frames == [[9, 10, 11, 12, 13, 14]]
    for store in (run.memory.raw_k, run.memory.v):
        torch.testing.assert_close(store[1, 0, 6:18:2, 1, 2], want)
        assert store[1, 0, :6:2, 0, 0].tolist() == [1, 2, 3]  # anchors keep the old prompt


def test_early_in_a_film_the_frames_there_are_take_the_newest_shares(film):
    """3 frames of a memory of 6: they are as near as the newest 3 of a full one, and as much of them is rebuilt."""
    run = filled(film, chunks=1)
    run.memory.evict(6)
    assert run.memory.layout.recent == 3
    recache(run.memory, Fresh(100.0), 0.8)
    share = torch.tensor([1 / 2, 2 / 3, 0.8])
    want = (1 - share) * torch.tensor([1.0, 2.0, 3.0]) + share * 100
    for store in (run.memory.raw_k, run.memory.v):
        torch.testing.assert_close(store[0, 0, :6:2, 0, 0], want)


def test_share_zero_leaves_every_bit(film):
    run = filled(film)
    run.memory.evict(6)
    before = snapshot(run.memory)
    network = Fresh(100.0)
    recache(run.memory, network, 0.0)
    assert network.frames == []  # not even a call
    recache(run.memory, network, 0.8)
    after = snapshot(run.memory)
    oldest = slice(6, 8)  # share 0 in a call that did run
    assert torch.equal(before["raw_k"][:, :, oldest], after["raw_k"][:, :, oldest])
    assert torch.equal(before["v"][:, :, oldest], after["v"][:, :, oldest])


def test_full_share_is_the_fresh_value(film):
    run = filled(film)
    run.memory.evict(6)
    recache(run.memory, Fresh(0.3), None)
    assert (run.memory.raw_k[:, :, 6:18] == torch.tensor(0.3)).all()


class TestLongLive:
    """The recache that comes before eviction: who is asked, and whose keys survive."""

    SPEC = MemorySpec(
        anchor_policy="frozen", anchor_update="never", switch="recache", recache_before_evict=True,
        anchor_index="slot",
    )  # fmt: skip

    def test_late_switch_keeps_the_sink(self, film):
        run, network = filled(film, self.SPEC, chunks=7), Fresh(100.0)
        recache_all(run.memory, network)
        assert network.frames == [list(range(9, 21))]  # a full window of queries
        assert run.stored() == [0, 1, 2] + [99] * 9
        assert run.memory.ledger.numbers() == [0, 1, 2, *range(12, 21)]

    def test_early_switch_refreshes_the_sink(self, film):
        for chunks in (2, 4):
            run, network = filled(film, self.SPEC, chunks), Fresh(100.0)
            recache_all(run.memory, network)
            assert network.frames == [list(range(3 * chunks))]
            assert run.stored() == [99] * 3 * chunks
            run.chunk()
            assert run.memory.ledger.numbers()[:3] == [0, 1, 2]

    def test_without_a_global_sink_recent_frames_become_the_sink(self, film):
        spec = replace(self.SPEC, recache_keeps_anchors=False)
        run, network = filled(film, spec, chunks=7), Fresh(100.0)
        recache_all(run.memory, network)
        assert network.frames == [list(range(9, 21))]
        run.chunk()
        assert run.memory.ledger.numbers() == [9, 10, 11, *range(15, 24)]

    @pytest.mark.parametrize(
        ("reach", "asked", "left"),
        [
            (6, range(15, 21), [-1] * 6 + [99] * 6),  # less than what is recent
            (9, range(12, 21), [-1] * 3 + [99] * 9),
            (99, [0, 1, 2, *range(12, 21)], [99] * 12),  # back to the anchors
        ],
    )
    def test_in_training_only_the_newest_frames_are_recomputed(self, film, reach, asked, left):
        run, network = filled(film, replace(self.SPEC, recache_reach=reach), chunks=7), Fresh(100.0)
        recache_all(run.memory, network)
        assert network.frames == [list(asked)]
        assert run.stored() == left

    def test_recached_frames_are_of_the_new_prompt(self, film):
        """So they may be offered as anchors, as a replacement waits for frames of the prompt that was switched to."""
        spec = replace(
            self.SPEC, anchor_policy="diversity", anchor_update="on_switch", recache_keeps_anchors=False
        )
        run = filled(film, spec, chunks=7)
        run.memory.ledger.prompt = 1
        recache_all(run.memory, Fresh(100.0))
        frames, prompts = snapshot(run.memory)["recent"].tolist()
        assert frames == list(range(9, 21)) and prompts == [1] * 12
        run.chunk()
        assert [evaluation.frame for evaluation in run.memory.log] == [12, 13, 14]
