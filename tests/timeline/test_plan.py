"""Seconds to chunks, seeds and keys."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gf_core.errors import StoryboardError
from gf_core.timeline import Segment, Storyboard, Timing, make_plan, parse


def board_of(*lengths: float) -> Storyboard:
    verbs = ["start"] + ["then"] * (len(lengths) - 1)
    return Storyboard(segments=tuple(Segment(v, f"p{i}", s) for i, (v, s) in enumerate(zip(verbs, lengths))))


def test_hand_worked_film():
    plan = make_plan(parse("a | 5s\nthen: b | 2s\ncut: c | 0.1s\nscene: d"))
    assert [s.chunks for s in plan.segments] == [7, 3, 1, 5]
    assert [s.first_chunk for s in plan.segments] == [0, 7, 10, 11]
    assert [s.start_frame for s in plan.segments] == [0, 81, 117, 129]
    assert [s.frames for s in plan.segments] == [81, 36, 12, 60]
    assert (plan.chunks, plan.frames, plan.seconds) == (16, 189, 189 / 16)
    assert [s.asked_seconds for s in plan.segments] == [5, 2, 0.1, 5]
    assert plan.segments[1].seconds == 2.25


def test_image_first_and_other_geometry():
    plan = make_plan(board_of(0.01, 1), Timing(fps=16, chunk_frames=3, first_chunk_frames=1))
    assert [s.frames for s in plan.segments] == [1, 12]
    frame_wise = make_plan(board_of(1), Timing(fps=24, chunk_frames=1))
    assert frame_wise.frames == 25 and frame_wise.chunks == 7


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(0.01, 60), min_size=1, max_size=12),
    st.sampled_from([8, 16, 24, 30]),
    st.sampled_from([1, 3]),
    st.sampled_from([None, 1]),
)
def test_segments_tile_the_film_and_totals_stay_close(lengths, fps, chunk, first):
    timing = Timing(fps, chunk, 4, first)
    plan = make_plan(board_of(*lengths), timing)
    frame = chunks = 0
    for segment in plan.segments:
        assert (segment.first_chunk, segment.start_frame) == (chunks, frame)
        assert segment.chunks >= 1 and segment.frames >= 1
        assert segment.seconds == segment.frames / fps
        chunks, frame = chunks + segment.chunks, frame + segment.frames
    assert (plan.chunks, plan.frames) == (chunks, frame)
    period = timing.chunk_pictures / fps
    if min(lengths) > period:
        assert abs(plan.seconds - sum(lengths)) <= period / 2 + 1e-9


def test_no_drift_over_many_segments():
    assert make_plan(board_of(*[1.1] * 200)).seconds == pytest.approx(220, abs=0.375)


FILM = "@seed 7\na | 5s\nthen: b | 5s\ncut: c | 4s | seed 11\nscene: d | 6s"


def seeds(text: str) -> dict[str, int]:
    return {s.prompt: s.seed for s in make_plan(parse(text)).segments}


@pytest.mark.parametrize(
    "change",
    [
        ("then: b", "then: new | 3s\nthen: b"),
        ("a | 5s", "a | 9s"),
        ("then: b | 5s", "then: b | 5s | mute"),
        ("then: b", "cut: b"),
    ],
)
def test_seeds_of_other_segments_survive(change):
    before, after = seeds(FILM), seeds(FILM.replace(*change))
    assert after["d"] == before["d"] and after["a"] == before["a"] and after["c"] == 11


def test_seeds_differ_where_they_should():
    plan = make_plan(parse("@seed 7\nsame\nthen: same\ncut: other\ncut: same"))
    assert len({s.seed for s in plan.segments}) == 4
    same = make_plan(parse("@cast fox = a fox\n{fox} runs\ncut: a fox runs"))
    assert same.segments[0].prompt == same.segments[1].prompt
    assert same.segments[0].seed != same.segments[1].seed
    assert seeds(FILM)["a"] != seeds(FILM.replace("@seed 7", "@seed 8"))["a"]
    assert all(0 <= s.seed < 2**53 for s in plan.segments)


def test_muting_does_not_reseed_a_repeated_prompt():
    film = "a\nthen: same\nthen: other\nthen: same | 2s"
    muted = film.replace("then: same\n", "then: same | mute\n")
    assert make_plan(parse(film)).segments[-1].seed == make_plan(parse(muted)).segments[-1].seed


def keys(text: str, base: str = "", **timing) -> list[str]:
    board = parse(text)
    return [s.key for s in make_plan(board, Timing(fps=board.fps, **timing), base).segments]


@pytest.mark.parametrize(
    ("change", "first_changed"),
    [
        (("scene: d", "scene: e"), 3),
        (("scene: d", "cut: d"), 3),
        (("seed 11", "seed 12"), 2),
        (("then: b | 5s", "then: b | 8s"), 1),
        (("then: b | 5s", "then: b | 5s | recache 0.5"), 1),
        (("then: b | 5s", "then: b | 5s | blend 2s"), 1),
        (("a | 5s", "a | 5s | seed 3"), 0),
        (("@seed 7", "@seed 7\n@style ink"), 0),
        (("@seed 7", "@fps 16\n# a comment\n@seed 7"), 4),
        (("then: b | 5s", "then: b | 5.01s"), 4),  # snaps to the same chunks
    ],
)
def test_a_change_changes_its_key_and_all_later_ones(change, first_changed):
    before, after = keys(FILM), keys(FILM.replace(*change))
    assert [old == new for old, new in zip(before, after)] == [index < first_changed for index in range(4)]


def test_keys_start_from_what_is_not_in_the_text():
    assert not set(keys(FILM)) & set(keys(FILM, base="another model"))
    assert not set(keys(FILM)) & set(keys(FILM, first_chunk_frames=1))
    assert keys(FILM) == keys(FILM)


def test_chunk_keys_survive_a_longer_segment():
    short, long = (make_plan(parse(text)).segments[0] for text in ("a | 3s", "a | 6s"))
    assert [short.chunk_key(i) for i in range(3)] == [long.chunk_key(i) for i in range(3)]
    assert short.key != long.key and short.chunk_key(0) != short.chunk_key(1)


def test_cast_and_style_are_in_the_prompt():
    plan = make_plan(parse("@style ink\n@cast fox = a red fox\n{fox} runs"))
    assert plan.segments[0].prompt == "a red fox runs, ink"


def test_muted_segments_take_no_time_and_hand_on_their_cut():
    def verbs(text):
        return [(s.index, s.verb) for s in make_plan(parse(text)).segments]

    assert verbs("a\ncut: b | mute\nthen: c") == [(0, "start"), (2, "cut")]
    assert verbs("a\nscene: b | mute\ncut: c\nthen: d") == [(0, "start"), (2, "scene"), (3, "then")]
    assert verbs("a\nthen: b | mute\nthen: c") == [(0, "start"), (2, "then")]
    assert verbs("a | mute\nthen: b | recache 0.5") == [(1, "start")]
    assert make_plan(parse("a | mute\nthen: b | recache 0.5")).segments[0].recache is None
    with pytest.raises(StoryboardError):
        make_plan(parse("a | mute"))


@pytest.mark.parametrize(("blend", "chunks"), [("0.1s", 1), ("0.75s", 1), ("1.5s", 2), ("5s", 7)])
def test_blend_in_chunks(blend, chunks):
    assert make_plan(parse(f"a | 5s\nthen: b | 5s | blend {blend}")).segments[1].blend_chunks == chunks
    assert make_plan(parse("a\nthen: b")).segments[1].blend_chunks == 0


def test_a_plan_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_plan(board_of(1)).segments[0].seed = 1
