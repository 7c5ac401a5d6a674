"""Metrics on hand-made readings: each number is known in advance."""

from __future__ import annotations

import numpy as np
import pytest

from gf_core.evaluation.measures import metrics
from gf_core.evaluation.measures.metrics import Span
from gf_core.evaluation.measures.recurrence import recalled_apart, told_apart
from gf_core.world.reader import ATTRIBUTES, Reading
from gf_core.world.vocabulary import Labels

FPS = 16.0


def reading(frames: int, **labels: np.ndarray | int) -> Reading:
    """A sure reading of class 0 everywhere but where told otherwise; `action` and `x`, pixels aside, are per frame."""
    values = {name: np.broadcast_to(labels.get(name, 0), frames).astype(int) for name in ATTRIBUTES}
    sure = {name: np.ones(frames, np.float32) for name in ATTRIBUTES}
    boxes = np.tile(np.float32([48, 40, 30, 36]), (frames, 1))
    boxes[:, 0] += labels.get("x", 0)
    starts = np.arange(0, frames - 11, 4)
    ones = np.ones(len(starts), np.float32)
    return Reading(values, sure, boxes, np.ones(frames, np.float32), starts, values["action"][starts], ones)


def span(start: int, stop: int, verb: str = "start", **asked: int) -> Span:
    return Span(start, stop, verb, "", Labels(**({"subject": 0, "colour": 0} | asked)))


def test_adherence_compares_the_majority_with_the_prompt() -> None:
    place = np.zeros(96, int)
    place[:20] = 3  # a minority of wrong frames does not matter
    rows = metrics.adherence(reading(96, place=place, colour=2), [span(0, 96, place=0)], FPS)
    assert rows[0]["place"]["right"] is True
    assert rows[0]["colour"] == {"asked": 0, "read": 2, "right": False}
    assert rows[0]["time"]["right"] is None  # the prompt says nothing about it
    assert metrics.share_right(rows) == {"subject": 1.0, "colour": 0.0, "place": 1.0}


def test_action_is_judged_after_the_settling_time() -> None:
    action = np.full(36, 3)
    action[:12] = 5  # still the old action for the first 0.75 s
    rows = metrics.adherence(reading(36, action=action), [span(0, 36, action=3)], FPS)
    assert rows[0]["action"]["right"] is True


def test_action_windows_do_not_reach_into_the_next_segment() -> None:
    action = np.concatenate((np.full(48, 1), np.full(48, 2)))
    rows = metrics.adherence(
        reading(96, action=action), [span(0, 48, action=1), span(48, 96, "then", action=2)], FPS
    )
    assert [row["action"]["right"] for row in rows] == [True, True]


def test_identity_counts_against_the_first_second_of_the_film() -> None:
    hat = np.full(96, 2)
    hat[48:] = 1  # another hat from second 3 on
    rows = metrics.identity(reading(96, hat=hat), [span(0, 96)], FPS)
    assert [row["hat"] for row in rows] == [1, 1, 1, 0, 0, 0]
    assert rows[5]["hidden"] == pytest.approx(2 / 3)
    assert [row["age"] for row in rows] == [0, 1, 2, 3, 4, 5]


def test_unreadable_frames_count_as_lost_identity() -> None:
    seen = reading(64)
    seen.confidence["scarf"][32:] = 0.3
    rows = metrics.identity(seen, [span(0, 64)], FPS)
    assert [row["scarf"] for row in rows] == [1, 1, 0, 0]
    assert metrics.unreadable(seen)["scarf"] == 0.5


def test_cut_and_return_are_told_apart() -> None:
    hat = np.zeros(192, int)
    hat[48:96] = 1
    hat[96:144] = 2  # the other character
    spans = [span(0, 48), span(48, 96, "cut"), span(96, 144, "cut", subject=4), span(144, 192, "cut")]
    rows = metrics.identity(reading(192, hat=hat), spans, FPS)
    result = metrics.after_cut(rows, spans)
    assert result["cut_hat"] == 0.0  # the same character, another hat after the cut
    assert result["return_hat"] == 1.0  # back after somebody else, with the first hat
    assert [row["absence"] for row in rows if row["segment"] == 3] == [3.0] * 3
    assert [row["cuts"] for row in rows] == [0] * 3 + [1] * 3 + [0] * 3 + [2] * 3


def test_a_scene_makes_the_same_name_somebody_new() -> None:
    hat = np.repeat((0, 3), 48)
    rows = metrics.identity(reading(96, hat=hat), [span(0, 48), span(48, 96, "scene")], FPS)
    assert all(row["hat"] == 1.0 for row in rows)


def test_majority_of_nothing_is_none() -> None:
    assert metrics.majority(np.zeros(0, int)) is None
    assert metrics.majority(np.array([1, 1, 2]), np.array([0.1, 0.1, 0.9])) == 2


def test_the_old_place_is_counted_in_the_first_second_of_a_hard_beginning_only() -> None:
    place = np.zeros(192, int)
    place[48:52] = 2  # a quarter of a second of the old place
    place[52:96] = 1
    place[96:144] = 1
    place[144:] = 3
    seen = reading(192, place=place)
    seen.confidence["place"][52:56] = 0.2
    spans = [span(0, 48, place=2), span(48, 96, "cut", place=1), span(96, 144, "then", place=2)]
    spans += [span(144, 192, "back", place=3)]
    rows = metrics.place_left(seen, spans, FPS)
    assert [(row["segment"], row["verb"], row["old"], row["new"]) for row in rows] == [
        (1, "cut", 0.25, 0.5),
        (3, "back", 0.0, 1.0),
    ]
    assert metrics.means(rows, metrics.LEFT) == {"old": 0.125, "new": 0.75} and metrics.means([]) == {}


def test_going_back_is_a_return_like_a_cut() -> None:
    spans = [span(0, 32), span(32, 64, "cut", subject=1), span(64, 96, "back")]
    rows = metrics.identity(reading(96, subject=np.repeat([0, 1, 0], 32)), spans, FPS)
    assert {row["absence"] for row in rows if row["segment"] == 2} == {2.0}
    assert metrics.after_cut(rows, spans)["return_subject"] == 1.0


RETURNS = [
    span(64 * n, 64 * n + 64, "cut" if n else "start", subject="ABC".index(who))
    for n, who in enumerate("ABACBA")
]
DRESSED = {"A": (1, 1, 1), "B": (2, 2, 1), "C": (3, 1, 2)}
"""Scarf, hat and patch; A and B share the patch, A and C the hat."""


def dressed(*wear: tuple[int, int, int]) -> Reading:
    """A film of `RETURNS` whose segments wear these."""
    marks = np.repeat(np.array(wear), 64, axis=0)
    return reading(len(marks), scarf=marks[:, 0], hat=marks[:, 1], patch=marks[:, 2])


def test_who_is_dressed_like_all_others_is_not_known_from_them() -> None:
    alike = dressed(*[(1, 1, 1)] * 6)
    assert told_apart(alike, RETURNS, FPS) == [0.0] * 9 and recalled_apart(alike, RETURNS, FPS) == []
    assert all(
        row["hidden"] == 1 for row in metrics.identity(alike, RETURNS, FPS)
    )  # what recall was taken in by


def test_who_comes_back_as_itself_is_known_by_what_nobody_else_wore() -> None:
    perfect = dressed(*(DRESSED[who] for who in "ABACBA"))
    assert told_apart(perfect, RETURNS, FPS) == [1, 1, 0, 1, 0, 1, 1, 1, 1]  # A and B, A and C, B and C
    rows = recalled_apart(perfect, RETURNS, FPS)
    # C's hat counts not against A where it has not been seen yet, and A's hat no more once it has.
    assert [(row["segment"], row["mark"]) for row in rows] == [
        (2, "scarf"), (2, "hat"), (4, "scarf"), (4, "hat"), (5, "scarf"),
    ]  # fmt: skip
    assert {(row["own"], row["other"]) for row in rows} == {(1.0, 0.0)}
    assert [row["absence"] for row in rows] == [4.0, 4.0, 8.0, 8.0, 8.0]


def test_who_comes_back_as_the_other_is_not_known() -> None:
    swapped = dressed(*(DRESSED[who] for who in "ABBCCB"))
    rows = recalled_apart(swapped, RETURNS, FPS)
    assert len(rows) == 5 and {(row["own"], row["other"]) for row in rows} == {(0.0, 1.0)}


def test_a_mark_that_cannot_be_read_is_neither_ones_own_nor_anothers() -> None:
    seen = dressed(*(DRESSED[who] for who in "ABACBA"))
    seen.confidence["scarf"][64:80] = (
        0.3  # B's first second: nothing to come back to, nothing to be mistaken for
    )
    seen.confidence["hat"][128:160] = 0.3  # half of A's return
    assert told_apart(seen, RETURNS, FPS) == [0, 1, 0, 1, 0, 1, 0, 1, 1]
    rows = {
        (row["segment"], row["mark"]): (row["own"], row["other"])
        for row in recalled_apart(seen, RETURNS, FPS)
    }
    assert rows == {(2, "scarf"): (1, 0), (2, "hat"): (0.5, 0), (4, "hat"): (1, 0), (5, "scarf"): (1, 0)}


def test_only_who_was_away_is_asked_for_its_marks() -> None:
    spans = [span(0, 64, subject=0), span(64, 128, "then", subject=0), span(128, 192, "cut", subject=0)]
    assert recalled_apart(reading(192), spans, FPS) == told_apart(reading(192), spans, FPS) == []
    anew = [span(0, 64, subject=0), span(64, 128, "cut", subject=1), span(128, 192, "scene", subject=0)]
    assert recalled_apart(reading(192), anew, FPS) == []  # after a scene a name means somebody new
