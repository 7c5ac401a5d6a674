"""A shot put into a storyboard: where it goes, and what becomes of what it interrupts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gf_core.errors import StoryboardError
from gf_core.timeline import format_storyboard, make_plan, parse
from gf_core.timeline.edits import insert_shot

FILM = """
@seed 7
@cast fox = a red fox
{fox} walks in a meadow   | 6s
then: it jumps            | 4.5s | blend 3s | recache 0.5
cut: {fox} sleeps in snow | 5s | seed 3
"""
BOARD = parse(FILM)
LONG = ("9" * 5000, "9" * 5000 + "s", "1:" + "9" * 5000, "0." + "9" * 5000 + "s")


def says(board) -> list[tuple[str, str, float]]:
    return [(s.verb, s.prompt, s.seconds) for s in board.segments]


def test_before_a_numbered_segment_what_followed_begins_with_a_cut():
    board = insert_shot(BOARD, "2", "an owl at night", 4)
    assert says(board)[1:3] == [("cut", "an owl at night", 4.0), ("cut", "it jumps", 4.5)]
    assert board.segments[2].blend is None and board.segments[2].recache is None


def test_a_cut_that_follows_stays_as_it_is():
    board = insert_shot(BOARD, "3", "an owl at night", 4, seed=11)
    assert board.segments[3] == BOARD.segments[2]
    assert board.segments[2].seed == 11


def test_at_the_end_nothing_else_changes():
    board = insert_shot(BOARD, " End ", "an owl", 4)
    assert board.segments[:3] == BOARD.segments and says(board)[3] == ("cut", "an owl", 4.0)
    assert insert_shot(BOARD, "15.5s", "an owl", 4) == board


@pytest.mark.parametrize("at", ["1", "0s", "0:00"])
def test_at_the_very_beginning_it_becomes_the_start(at):
    board = insert_shot(BOARD, at, "an owl", 4)
    assert says(board)[:2] == [("start", "an owl", 4.0), ("cut", "{fox} walks in a meadow", 6.0)]


@pytest.mark.parametrize("at", ["7.5s", "0:07.5", "7.5 S"])
def test_a_moment_inside_a_segment_splits_it(at):
    board = insert_shot(BOARD, at, "an owl", 4)
    assert says(board)[1:4] == [("then", "it jumps", 1.5), ("cut", "an owl", 4.0), ("cut", "it jumps", 3.0)]
    assert board.segments[1].blend == 1.5 and board.segments[3].blend is None


def test_the_rest_of_a_split_segment_has_noise_of_its_own():
    board = insert_shot(BOARD, "12s", "an owl", 4)
    assert [s.seed for s in board.segments[2:]] == [3, None, None]
    plan = make_plan(board)
    assert plan.segments[2].seed != plan.segments[4].seed


def test_a_new_scene_is_followed_by_a_scene():
    board = insert_shot(BOARD, "6s", "a harbour", 4, keep_cast=False)
    assert [s.verb for s in board.segments] == ["start", "scene", "scene", "cut"]


def test_muted_segments_take_no_time():
    board = insert_shot(parse("a fox | 4s\ncut: an owl | 5s | mute\ncut: a cat | 6s"), "6s", "a dog", 2)
    assert says(board)[1:5] == [
        ("cut", "an owl", 5.0),
        ("cut", "a cat", 2.0),
        ("cut", "a dog", 2.0),
        ("cut", "a cat", 4.0),
    ]


def test_line_breaks_in_the_prompt_become_blanks():
    assert insert_shot(BOARD, "end", " an owl\n\n on a roof ", 4).segments[-1].prompt == "an owl on a roof"


@pytest.mark.parametrize(
    ("at", "prompt", "seconds", "seed", "words"),
    [
        ("soon", "an owl", 4, None, "'soon' is no place in the film"),
        ("2.5", "an owl", 4, None, "12.5s"),
        ("0", "an owl", 4, None, "there is no segment 0, the film has 3"),
        ("4", "an owl", 4, None, "such as 4s"),
        ("16s", "an owl", 4, None, "the film is over at 15.5 s"),
        ("end", "  \n", 4, None, "no prompt"),
        ("end", "{fux} runs", 4, None, "did you mean {fox}?"),
        ("end", "an owl", 0, None, "out of range"),
        ("end", "an owl", float("nan"), None, "out of range"),
        ("end", "an owl", 4, 2**53, "out of range"),
        *((at, "an owl", 4, None, "no place in the film") for at in LONG),
    ],
)
def test_refused_in_words(at, prompt, seconds, seed, words):
    with pytest.raises(StoryboardError) as refusal:
        insert_shot(BOARD, at, prompt, seconds, seed=seed)
    assert words in str(refusal.value)


@given(st.integers(0, 1550), st.booleans())
def test_every_moment_gives_a_storyboard_that_text_can_say(hundredths, keep_cast):
    board = insert_shot(BOARD, f"{hundredths / 100}s", "an owl", 4, keep_cast=keep_cast)
    assert parse(format_storyboard(board)) == board
    assert sum(s.seconds for s in board.segments) == pytest.approx(19.5)


BACK = parse(
    "a fox | 3s\nthen: it jumps | 3s\ncut: an owl | 3s\nback to 2: the fox | 4s | motion\nback to 1: it"
)


@pytest.mark.parametrize(
    ("at", "numbers"),
    [("1", [3, 2]), ("2", [3, 1]), ("3", [2, 1]), ("4s", [4, 1]), ("1.5s", [4, 3]), ("end", [2, 1])],
)
def test_segments_that_go_back_follow_theirs_to_its_new_number(at, numbers):
    board = insert_shot(BACK, at, "a ship", 2)
    backs = [s.back for s in board.segments if s.verb == "back"]
    assert backs == numbers
    ends = [board.segments[number - 1].prompt for number in backs]
    assert ends == ["it jumps", "a fox"]
    parse(format_storyboard(board))


def test_a_shot_may_go_back_itself_and_its_rest_does_not():
    board = insert_shot(BACK, "11s", "a ship", 2, back=3)
    assert says(board)[3:6] == [("back", "the fox", 2.0), ("back", "a ship", 2.0), ("cut", "the fox", 2.0)]
    assert (board.segments[4].back, board.segments[5].back, board.segments[5].motion) == (3, None, False)


@pytest.mark.parametrize(("at", "back"), [("2", 2), ("1", 1), ("end", 6), ("end", 0)])
def test_a_shot_cannot_go_back_to_what_is_not_in_front_of_it(at, back):
    with pytest.raises(StoryboardError, match="go back"):
        insert_shot(BACK, at, "a ship", 2, back=back)
