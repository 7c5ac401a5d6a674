"""Seconds to chunks, seeds and keys."""

from __future__ import annotations

import dataclasses
import itertools
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gf_core.config import VideoSpec
from gf_core.errors import GroundedError, StoryboardError
from gf_core.timeline import Segment, Storyboard, Timing, make_plan, parse
from gf_core.timeline.plan import derive_seed
from gf_core.words import exact_rate


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


@pytest.mark.parametrize(("seconds", "chunks"), [(0.9375, 2), (1.6875, 3), (2.4375, 4)])
def test_half_way_between_two_chunks_takes_the_longer(seconds, chunks):
    """9 pictures and then 12 each: 15, 27 and 39 lie in the middle. Rounding down gives one less, to even 1, 3, 3."""
    assert make_plan(board_of(seconds)).chunks == chunks
    assert make_plan(board_of(0.5, seconds - 0.5)).chunks == chunks  # it is the running total that is rounded


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


@pytest.mark.parametrize(
    ("film_seed", "want"),
    [
        (0, [909576649039000, 2863977813339669, 8766402615398175]),
        (7, [3855906326277549, 6559729239082420, 3245301374455756]),
    ],
)
def test_derived_seeds_stay_what_they_are(film_seed, want):
    """Every film without `seed N` is made from them: other numbers would be other films."""
    plan = make_plan(parse(f"@seed {film_seed}\na red fox\ncut: a blue owl\ncut: a red fox"))
    assert [segment.seed for segment in plan.segments] == want
    assert [derive_seed(film_seed, s.prompt, use) for s, use in zip(plan.segments, (0, 0, 1))] == want


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


def test_every_part_of_the_geometry_is_in_the_keys():
    """In the key of the film's first chunk, which no length can have changed."""
    timings = [Timing(), Timing(first_chunk_frames=1), Timing(first_chunk_frames=4)]
    timings += [Timing(chunk_frames=frames) for frames in (1, 4)]
    timings += [Timing(time_stride=stride) for stride in (1, 8)]
    first = [make_plan(parse("a"), timing).segments[0].chunk_key(0) for timing in timings]
    assert len(set(first)) == len(timings)
    assert make_plan(parse("a"), Timing(fps=24)).segments[0].chunk_key(0) == first[0], (
        "the same, shown faster"
    )


def test_everything_that_a_segment_says_is_in_the_keys_of_its_chunks():
    """No two of these may share a chunk, of this segment or of the next; what comes before they all share."""
    said = ["then: b", "then: c", "cut: b", "scene: b", "then: b | seed 3", "cut: b | seed 3"]
    said += [f"then: b | recache {share}" for share in (0, 0.5)] + [f"then: b | blend {s}s" for s in (1, 3)]
    plans = [make_plan(parse(f"a\n{line} | 5s\ncut: d")) for line in said]
    for number, distinct in enumerate((1, len(said), len(said))):
        assert len({plan.segments[number].chunk_key(0) for plan in plans}) == distinct


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
    two = "a\n{}: b | mute\n{}: c | mute\nthen: d\nthen: e"  # the strongest of several is handed on, once
    for first, second, want in (
        ("cut", "then", "cut"),
        ("scene", "then", "scene"),
        ("scene", "cut", "scene"),
        ("cut", "scene", "scene"),
        ("then", "cut", "cut"),
    ):
        assert verbs(two.format(first, second)) == [(0, "start"), (3, want), (4, "then")]
    assert make_plan(parse("a | mute\nthen: b | recache 0.5")).segments[0].recache is None
    with pytest.raises(StoryboardError):
        make_plan(parse("a | mute"))


@pytest.mark.parametrize(("blend", "chunks"), [("0.1s", 1), ("0.75s", 1), ("1.5s", 2), ("5s", 7)])
def test_blend_in_chunks(blend, chunks):
    assert make_plan(parse(f"a | 5s\nthen: b | 5s | blend {blend}")).segments[1].blend_chunks == chunks
    assert make_plan(parse("a\nthen: b")).segments[1].blend_chunks == 0


@pytest.mark.parametrize(("blend", "chunks"), [("1.125s", 2), ("1.875s", 3)])
def test_a_blend_half_way_between_two_counts_takes_the_longer(blend, chunks):
    assert make_plan(parse(f"a | 5s\nthen: b | 5s | blend {blend}")).segments[1].blend_chunks == chunks


def test_a_blend_ends_with_its_segment():
    """Else its last step, where the memory takes the new prompt, never comes. 1.25 s are 20 pictures: two chunks by
    themselves, one behind 0.25 s."""
    assert make_plan(parse("a | 0.25s\nthen: b | 1.25s | blend 1.25s")).segments[1].blend_chunks == 1
    capped = 0
    for before, own, blend in itertools.product(range(1, 14), range(1, 14), range(1, 14)):
        if blend <= own:
            text = f"a | {before / 4}s\nthen: b | {own / 4}s | blend {blend / 4}s"
            segment = make_plan(parse(text)).segments[1]
            assert 1 <= segment.blend_chunks <= segment.chunks, text
            capped += segment.blend_chunks < round(blend * 4 / 12)
    assert capped, "none of these films needs the cap"


def test_a_plan_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_plan(board_of(1)).segments[0].seed = 1


@pytest.mark.parametrize("said", ["23.976", "29.97", "59.94", "12.5", "24000/1001", "16", "25"])
def test_no_rate_drifts_over_ten_minutes(said):
    """Every segment begins where the film's stamps, whole multiples of the exact fraction, put its first picture."""
    board = parse(f"@fps {said}\na | 7.3s\n" + "then: b | 7.3s\n" * 90)
    plan = make_plan(board)
    exact = exact_rate(board.fps)
    for segment in plan.segments:
        assert segment.start_seconds == float(segment.start_frame / exact)
    asked = Fraction(73, 10) * 91
    assert abs(plan.frames / exact - asked) <= Fraction(1, 2) * plan.timing.chunk_pictures / exact


@pytest.mark.parametrize("fps", [0, -16, float("nan"), float("inf")])
def test_no_film_of_no_speed(fps):
    for make in (
        lambda: make_plan(Storyboard(fps, segments=(Segment("start", "a"),))),
        lambda: VideoSpec(fps=fps),
    ):
        with pytest.raises(GroundedError, match="pictures a second"):
            make()


@pytest.mark.parametrize("wrong", [96.0, "96", None, 0, -16, True])
def test_sizes_and_speeds_of_wrong_types_are_refused_in_words(wrong):
    for name in ("width", "height"):
        with pytest.raises(GroundedError, match=f"a film with {name}"):
            VideoSpec(**{name: wrong})
    if not isinstance(wrong, float):
        with pytest.raises(GroundedError, match="pictures a second"):
            VideoSpec(fps=wrong)


def test_a_muted_segment_that_goes_back_hands_that_on():
    text = "a fox | 2s\ncut: b | 2s\nback to 1: c | 2s | motion | mute\n{} d | 2s\nback to 4: e | 2s"

    def says(line):
        return [(s.verb, s.back, s.motion) for s in make_plan(parse(text.format(line))).segments[2:]]

    assert says("then:") == [("back", 0, True), ("back", 2, False)]
    assert says("cut:") == [("back", 0, False), ("back", 2, False)]
    assert says("scene:") == [("scene", None, False), ("back", 2, False)]
    assert says("back to 2:") == [("back", 1, False), ("back", 2, False)]


def test_what_a_segment_goes_back_to_is_in_its_key():
    keys = {make_plan(parse(f"a\ncut: b\n{line} c")).segments[2].key
            for line in ("cut:", "back to 1:", "back to 2:")}  # fmt: skip
    keys.add(make_plan(parse("a\ncut: b\nback to 1: c | motion")).segments[2].key)
    assert len(keys) == 4
