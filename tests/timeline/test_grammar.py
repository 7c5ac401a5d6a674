"""Text to storyboard: the shared fixtures, the inverse, and errors that point at the right place."""

from __future__ import annotations

import json
import time
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gf_core.errors import StoryboardError
from gf_core.timeline import Picture, Segment, Storyboard, format_storyboard, make_plan, parse
from gf_core.timeline.lines import half_width
from gf_core.timeline.storyboard import BLANKS, REFERENCE

FIXTURES = Path(__file__).parent.parent / "fixtures" / "timeline"
FILMS = json.loads((FIXTURES / "films.json").read_text(encoding="utf-8"))
ERRORS = json.loads((FIXTURES / "errors.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", FILMS, ids=lambda case: case["name"])
def test_fixture_films_read_as_recorded(case):
    board = parse(case["text"])
    assert board.fps == float(Fraction(case["fps"]))
    assert (board.seed, board.style, board.cast) == tuple(case[key] for key in ("seed", "style", "cast"))
    assert {name: picture.file for name, picture in board.pictures.items()} == case.get("pictures", {})
    assert len(board.segments) == len(case["segments"])
    for index, (segment, wanted) in enumerate(zip(board.segments, case["segments"])):
        assert board.expanded(index) == wanted["expanded"]
        for key in ("verb", "prompt", "seconds", "seed", "recache", "blend", "mute", "line"):
            assert getattr(segment, key) == wanted[key], key
        assert (segment.back, segment.motion) == (wanted.get("back"), wanted.get("motion", False))


@pytest.mark.parametrize("case", FILMS, ids=lambda case: case["name"])
def test_fixture_films_survive_writing(case):
    board = parse(case["text"])
    assert parse(format_storyboard(board)) == board
    assert type(parse(format_storyboard(board)).fps) is type(board.fps)
    assert format_storyboard(parse(format_storyboard(board))) == format_storyboard(board)


def test_a_seed_of_zero_is_told_apart_from_none_and_plans_alike():
    said, unsaid = parse("@seed 0\na fox"), parse("a fox")
    assert (said.seed, unsaid.seed) == (0, None)
    assert parse(format_storyboard(said)) == said and "@seed" not in format_storyboard(unsaid)
    plans = [make_plan(board).segments[0] for board in (said, unsaid)]
    assert plans[0].seed == plans[1].seed and plans[0].key == plans[1].key


@pytest.mark.parametrize("case", ERRORS, ids=lambda case: case["name"])
def test_fixture_errors_point_at_line_and_column(case):
    with pytest.raises(StoryboardError) as caught:
        parse(case["text"])
    error = caught.value
    assert (error.line, error.column) == (case["line"], case["column"])
    assert error.message and error.fix
    assert error.fix == case.get("fix", error.fix)


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("a\ncutt: b", "did you mean 'cut:'?"),
        ("a | 5s | reccache 0.5", "did you mean 'recache'?"),
        ("@cast Anna = a girl\n{anna} waits", "did you mean {Anna}?"),
        ("@sede 5\na", "did you mean '@seed'?"),
        ("a | lora x", "remove it; load the LoRA with --lora, or with a LoRA node in front of the sampler"),
        (
            "@cast fox = a fox | fox.gif\na fox",
            "give a picture, such as fox.png; its name ends with one of png, jpg, jpeg, webp, bmp, tif, tiff",
        ),
    ],
)
def test_errors_suggest_what_was_meant(text, fix):
    with pytest.raises(StoryboardError) as caught:
        parse(text)
    assert caught.value.fix == fix


def test_error_text_shows_the_line_with_a_pointer_under_the_character():
    with pytest.raises(StoryboardError) as caught:
        parse("a fox\n\tthan: it runs | 5s")
    _, shown, pointer, fix = str(caught.value).split("\n")
    assert shown[pointer.index("^") :].startswith("than:")
    assert fix.strip().startswith("fix:")


def _plain(text: str) -> bool:
    seen = half_width(text).strip(" ")
    return bool(seen) and text == text.strip(BLANKS) and not REFERENCE.search(text)


one_line = st.text(st.characters(exclude_characters="\r\n", exclude_categories=("Cs", "Cc")), max_size=40)
tricky = st.lists(
    st.sampled_from(
        [
            "|",
            "\\",
            "｜",
            "│",
            "#",
            "@",
            "cut:",
            "then",
            ":",
            "：",
            "{fox}",
            "é",
            "5s",
            " ",
            "{",
            "\u200b",
            "＃",
            "0",
        ]
    ),
    max_size=9,
)
names = st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_-]{0,6}\Z")
descriptions = one_line.filter(_plain)
seconds = st.floats(1e-6, 3600)
seeds = st.integers(0, 2**53 - 1)


@st.composite
def boards(draw) -> Storyboard:
    cast = draw(st.dictionaries(names, descriptions, max_size=3)) | {"fox": "a red fox"}
    prompts = one_line.filter(_plain) | tricky.map("".join).map(str.strip).filter(
        lambda text: half_width(text).strip(" ")
    )
    segments = []
    for index in range(draw(st.integers(1, 5))):
        verb = draw(st.sampled_from(["then", "cut", "scene"])) if index else "start"
        length = draw(seconds)
        segments.append(
            Segment(
                verb=verb,
                prompt=draw(prompts),
                seconds=length,
                seed=draw(st.none() | seeds),
                recache=draw(st.none() | st.floats(0, 1)) if verb == "then" else None,
                blend=draw(st.none() | st.floats(length / 2, length)) if verb == "then" else None,
                mute=draw(st.booleans()),
            )
        )
    return Storyboard(
        fps=draw(st.integers(1, 120) | st.sampled_from([24000 / 1001, 12.5, 193 / 16])),
        seed=draw(st.none() | seeds),
        style=draw(st.just("") | descriptions),
        cast=cast,
        segments=tuple(segments),
        pictures={name: Picture(f"{draw(names)}.png") for name in cast if draw(st.booleans())},
    )


@settings(max_examples=120, deadline=None)
@given(boards())
def test_parse_undoes_format(board):
    text = format_storyboard(board)
    assert parse(text) == board
    assert format_storyboard(parse(text)) == text


words = [
    "a fox",
    "then:",
    "cut:",
    "scene:",
    "fox = ",
    "{fox}",
    "5s",
    "seed",
    "7",
    "mute",
    "lora x:1",
    "blend 1s",
]
marks = [
    "|",
    "\\|",
    "\\",
    " ",
    "\t",
    "\n",
    "\r\n",
    "#",
    "@cast ",
    "@fps",
    "@seed 1",
    "@style x",
    "{",
    "｜",
    "：",
    "\u200b",
    "5f",
    ",",
    ".",
    "-",
    ":",
]
pieces = st.sampled_from([*words, *marks])


@settings(max_examples=300, deadline=None)
@given(st.lists(pieces, max_size=25).map("".join) | st.text(max_size=60))
def test_any_text_is_read_or_refused_inside_the_text(text):
    try:
        board = parse(text)
    except StoryboardError as error:
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        assert 1 <= error.line <= len(lines)
        assert 1 <= error.column <= len(lines[error.line - 1]) + 1
        assert error.message and error.fix
    else:
        assert parse(format_storyboard(board)) == board


@pytest.mark.parametrize(
    "board",
    [
        Storyboard(segments=(Segment("start", "two\nlines"),)),
        Storyboard(segments=(Segment("start", " blank at the end "),)),
        Storyboard(segments=(Segment("cut", "a cut first"),)),
        Storyboard(segments=(Segment("start", "nobody {knows}"),)),
        Storyboard(segments=(Segment("start", "forever", seconds=1e9),)),
    ],
)
def test_format_refuses_what_text_cannot_say(board):
    with pytest.raises(StoryboardError):
        format_storyboard(board)


NINES = "9" * 5000


@pytest.mark.parametrize(
    "text",
    [f"a | {NINES}:30", f"a | {NINES}s", f"a | {NINES} min", f"a | seed {NINES}"],
)
def test_numbers_of_any_length_are_refused_briefly(text):
    with pytest.raises(StoryboardError) as caught:
        parse(text)
    assert caught.value.column >= 5 and len(str(caught.value)) < 1200


def test_an_error_in_a_very_long_line_shows_the_place_only():
    with pytest.raises(StoryboardError) as caught:
        parse("a " * 50_000 + "| soed 7 |" + " b" * 50_000)
    _, shown, pointer, _ = str(caught.value).split("\n")
    assert len(shown) < 210 and shown[pointer.index("^") :].startswith("soed 7")


def test_a_cast_that_grows_without_bound_is_refused():
    lines = ["@cast a0 = lol", *(f"@cast a{n} = {{a{n - 1}}}{{a{n - 1}}}" for n in range(1, 60)), "{a59}"]
    with pytest.raises(StoryboardError, match="more than 20000 characters") as caught:
        make_plan(parse("\n".join(lines)))
    assert caught.value.line == 61
    board = parse("@cast a = " + "x" * 19_999 + "\n{a}")
    assert len(board.expanded(0)) == 19_999


def test_half_a_character_is_refused_where_it_stands():
    with pytest.raises(StoryboardError) as caught:
        parse("a fox\nthen: it \ud83d runs")
    assert (caught.value.line, caught.value.column) == (2, 10)
    str(caught.value).encode()
    assert parse("a fox \U0001f98a").segments[0].prompt == "a fox \U0001f98a"


def test_ten_thousand_segments_take_a_few_seconds_at_most():
    head = [f"@cast c{n} = a thing {n}" for n in range(100)]
    body = ["a fox", *(f"then: {{c{n % 100}}} number {n} | 5s | seed {n}" for n in range(10_000))]
    began = time.process_time()
    board = parse("\n".join([*head, *body]))
    assert make_plan(board).chunks > 10_000 and format_storyboard(board)
    assert time.process_time() - began < 20


def test_more_segments_than_a_day_of_film_are_refused_where_they_begin(monkeypatch):
    monkeypatch.setattr("gf_core.timeline.grammar.MAX_SEGMENTS", 3)
    lines = ["a fox", "then: it runs", "# a remark", "cut: snow"]
    assert len(parse("\n".join(lines)).segments) == 3
    with pytest.raises(StoryboardError, match="more than 3 segments") as caught:
        parse("\n".join([*lines, "", "  than: nothing"]))
    assert (caught.value.line, caught.value.column) == (6, 3)


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"@cast {'n' * 195}{i:04d} = x\n" for i in range(1000)) + "{" + "n" * 199 + "}",
        "a" + "｜seed x" * 30_000,
        "|" * 300_000,
        "a" + "｜" * 500_000,
        "# a remark\n" * 300_000,
        "a" + " " * 300_000 + "b | " + "9" * 300_000,
    ],
    ids=["long names", "options behind wide bars", "bars", "wide bars", "remarks", "blanks and digits"],
)
def test_no_text_takes_long(text):
    began = time.process_time()
    with pytest.raises(StoryboardError):
        parse(text + "\n@fps x")
    assert time.process_time() - began < 2
