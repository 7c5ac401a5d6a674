"""The training schedules are the engine's: the trace of the dual memory, cuts, scenes and recaches."""

import random

import pytest
import torch

from gf_core.config import MemorySpec
from gf_core.memory.recache import proximity
from gf_core.train.batch import tabulate
from gf_core.train.schedule import EMPTY, Schedule, plan_schedule

PAPER = MemorySpec()


def steady(seed: int = 1) -> random.Random:
    """A generator whose first draw leaves anchors alone (no replacement)."""
    rng = random.Random(seed)
    while rng.random() < 0.5:
        seed += 1
        rng = random.Random(seed)
    return random.Random(seed)


def frames(slots: tuple[int, ...]) -> list[int]:
    return [slot for slot in slots if slot != EMPTY]


def plan(chunks: int, verbs: dict[int, str]) -> Schedule:
    return plan_schedule(chunks, verbs, PAPER, steady())


def test_window_trace_of_one_prompt():
    expected = [
        ([], []),
        ([], [0, 1, 2]),
        ([], [0, 1, 2, 3, 4, 5]),
        ([0, 1, 2], [3, 4, 5, 6, 7, 8]),
        ([0, 1, 2], [6, 7, 8, 9, 10, 11]),
        ([0, 1, 2], [9, 10, 11, 12, 13, 14]),
    ]
    views = plan(6, {}).views
    assert [(frames(v.anchors), frames(v.recent)) for v in views] == expected


def test_positions_of_the_steady_window():
    table = tabulate([plan(5, {})], torch.zeros(1, 5, dtype=torch.long))
    assert table.positions[0, 4].tolist() == [0, 0, 0, 3, 4, 5, 6, 7, 8]
    assert table.own[0].tolist() == [0, 3, 6, 9, 9]


@pytest.mark.parametrize(("chunk", "anchors"), [(1, [0, 1, 2]), (3, [0, 1, 2])])
def test_a_cut_empties_recent_memory_and_keeps_the_cast(chunk: int, anchors: list[int]):
    schedule = plan(chunk + 2, {chunk: "cut"})
    view = schedule.views[chunk]
    assert (frames(view.anchors), frames(view.recent)) == (anchors, [])
    after = schedule.views[chunk + 1]
    assert frames(after.recent) == [3 * chunk, 3 * chunk + 1, 3 * chunk + 2]
    table = tabulate([schedule], torch.zeros(1, chunk + 2, dtype=torch.long))
    assert table.own[0, chunk].item() == 3 and table.own[0, chunk + 1].item() == 6


def test_a_scene_forgets_everything():
    view = plan(6, {4: "scene"}).views[4]
    assert frames(view.anchors) == frames(view.recent) == [] and view.first_recent == 0


def test_a_switch_blends_after_the_eviction():
    schedule = plan(6, {4: "then"})
    event = schedule.recaches[0]
    assert frames(event.anchors) == [0, 1, 2] and frames(event.frames) == [6, 7, 8, 9, 10, 11]
    assert event.alphas == pytest.approx([0, 1 / 6, 1 / 3, 1 / 2, 2 / 3, 0.8])
    bank = list(range(18, 24))
    assert frames(schedule.views[4].recent) == bank
    assert frames(schedule.views[5].recent) == [*bank[3:], 12, 13, 14]


def test_an_early_switch_uses_the_newest_weights():
    event = plan(3, {1: "then"}).recaches[0]
    assert event.frames == (EMPTY, EMPTY, EMPTY, 0, 1, 2)
    assert event.alphas[3:] == pytest.approx([1 / 2, 2 / 3, 0.8])


def test_weights_fall_with_distance():
    weights = proximity(6, 6, 0.8)
    assert weights == sorted(weights) and weights[0] == 0 and weights[-1] == 0.8
