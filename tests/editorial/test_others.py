"""Storyboards of other programs: what becomes of each form, and that whatever is wrong with one is said in words."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gf_core.cli import main
from gf_core.cli.files import is_own_text, read_text
from gf_core.editorial import others
from gf_core.editorial.others import is_theirs, read_theirs
from gf_core.errors import GroundedError, StoryboardError
from gf_core.timeline import Storyboard, format_storyboard, parse

from ..nested import changed, places

THEIRS = Path(__file__).parents[1] / "fixtures" / "others"
BECOMES = {
    "multishot.txt": (
        "an H3-Multishot script, read as 3 segments; assumed: 5 s for each, as it says no lengths; "
        "without a counterpart here: 1 pair of braces",
        """\
A static camera on a diner booth at night. A man in a blue jacket says, "You came." | 5s
then: A static camera on a diner booth at night. A woman in a sweater nods \\| then looks away. | 5s
then: The man stands up and leaves the booth. | 5s
""",
    ),
    "multishot.json": (
        "an H3-Multishot script, read as 2 segments; assumed: 5 s for each, as it says no lengths; "
        "without a counterpart here: 1 other entry",
        "a man enters a diner | 5s\nthen: he sits down by the window | 5s\n",
    ),
    "director.json": (
        "an LTX Director timeline, read as 2 segments; without a counterpart here: 1 picture or video, "
        "1 piece of sound, 1 segment outside of the rendered part, its 24 pictures a second, 1 prompt without words",
        "@style a castle in autumn, film grain\na knight rides in | 6s\nthen: the horse drinks | 4s\n",
    ),
    "captions/01.json": (
        "captions of ShotStream, read as 3 segments; assumed: 5 s for each, as it says no lengths; "
        "without a counterpart here: 1 other entry",
        """\
@style Two sailors argue on a pier at dusk, realistic.
a close-up of the older sailor. | 5s
cut: The camera cuts to the younger sailor, who shakes his head. | 5s
cut: A wide shot of the empty pier. | 5s
""",
    ),
    "captions/list.csv": (
        "captions of ShotStream, read as 2 segments; without a counterpart here: 1 caption without frames, "
        "1 other entry, 1 more film in its list",
        """\
@style Two sailors argue on a pier at dusk, realistic.
a close-up of the older sailor. | 5.0625s
cut: The camera cuts to the younger sailor, who shakes his head. | 2s
""",
    ),
    "fizznodes.txt": (
        "a schedule of prompts, read as 3 segments; assumed: 16 pictures a second (--fps N counts otherwise), "
        "5 s for its last prompt; without a counterpart here: 1 negative prompt, 1 weight in backticks, "
        "1 prompt without words",
        "a fox in a meadow | 1.5s\nthen: it jumps (high:`pw_a`) | 3s\nthen: it sleeps under a tree | 5s\n",
    ),
    "deforum.json": (
        "settings of Deforum, read as 2 segments; without a counterpart here: 3 other settings, "
        "its negative prompt, 1 prompt after its last frame, 1 negative prompt, its 12 pictures a second",
        "@seed 11\n@style oil painting\na lighthouse | 3s\nthen: a storm comes | 5s\n",
    ),
    "episode.json": (
        "an episode of EntityBench, read as 3 segments; assumed: 5 s for each, as it says no lengths; "
        "without a counterpart here: who is seen when, its overview",
        """\
@cast Anna = Woman with a red apron.
@cast Mr-Po = Man in a grey coat.
@cast The-Old-Bakery = Small room with a brick oven.
@cast the-straw-hat = Wide straw hat.
Anna: {Anna} The Old Bakery: {The-Old-Bakery} the straw hat: {the-straw-hat} \
In The Old Bakery, Anna hangs up the straw hat. | 5s
then: Anna turns to the oven. | 5s
cut: Mr. Po: {Mr-Po} Mr. Po takes the straw hat. | 5s
""",
    ),
}
"""File: what is said of it, and the storyboard that it becomes."""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    shutil.copytree(THEIRS, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", BECOMES)
def test_what_becomes_of_each_form(name, printed, caplog):
    said, board = BECOMES[name]
    out = printed("open", name)
    assert parse(out) == parse(board)
    assert format_storyboard(parse(out)) == out
    assert caplog.messages == [f"{Path(name).name} is {said}"]


def test_every_form_has_a_file():
    files = {path.relative_to(THEIRS).as_posix() for path in THEIRS.rglob("*") if path.is_file()}
    assert files == set(BECOMES)


def test_an_episode_is_told_in_its_own_words():
    prompts = [
        p for s in json.loads((THEIRS / "episode.json").read_text())["scenes"] for p in s["video_prompts"]
    ]
    board = read_theirs((THEIRS / "episode.json").read_text(), Path("episode.json"))
    assert [board.expanded(n) for n in range(3)] == [" ".join(prompt.split()) for prompt in prompts]


@pytest.mark.parametrize("name", BECOMES)
def test_nothing_is_written_into_their_files(place, name):
    assert not is_own_text(name)
    (place / "film.txt").write_text("a fox | 5s\ncut: a hen | 4s")
    assert is_own_text("film.txt")


def test_frames_are_counted_at_the_speed_that_is_given(printed, caplog):
    board = parse(printed("open", "fizznodes.txt", "--fps", "12"))
    assert board.fps == 12 and [segment.seconds for segment in board.segments] == [2, 4, 5]
    assert "pictures a second" not in caplog.text


@pytest.mark.parametrize(("fps", "told"), [(16, False), (12, True)])
def test_a_speed_that_the_film_has_too_is_no_loss(caplog, fps, told):
    caplog.set_level("INFO")
    read_theirs(json.dumps({"prompts": {"0": "a fox"}, "fps": fps, "max_frames": 32}), Path("deforum.json"))
    assert (f"its {fps} pictures a second" in caplog.text) == told


@pytest.mark.parametrize(
    "text",
    [
        "a fox | 5s\n---\ncut: a hen | 4s",
        "@fps 12\na fox\n---\n",
        "a fox\nthen a hen",
        "---",
        "a fox\n---\nback to 9: it sits",
    ],
)
def test_our_own_text_stays_ours(place, text, printed, refused):
    """With a mistake in it too: then the mistake is named, and nothing is guessed."""
    assert not is_theirs(text)
    (place / "film.txt").write_text(text, encoding="utf-8")
    assert read_text("film.txt") == text
    try:
        parse(text)
    except StoryboardError as error:
        assert f"{error.message} (in film.txt)" in refused("open", "film.txt")
    else:
        assert printed("open", "film.txt").rstrip("\n") == text.rstrip("\n")


HOSTILE = {
    "empty": b"",
    "blank": b" \n\t\n" * 200_000,
    "null": b"null",
    "number": b"9" * 400_000,
    "nothing": b"{}",
    "list": b"[[]]",
    "deep": b'{"prompts": ' + b"[" * 100_000,
    "deeper": b'{"a":' * 100_000,
    "twice": b'{"0": "a", "0": "b"}',
    "latin": '{"prompts": ["caf\u00e9"]}'.encode("latin-1"),
    "wide": '{"prompts": ["a fox"]}'.encode("utf-16"),
    "large": b'{"prompts": ["' + b"a" * 50_000_000 + b'"]}',
    "long": b'{"prompts": ["' + b"a" * 30_000 + b'"]}',
    "many": b'{"prompts": [' + b'"a fox",' * 20_000 + b'"a fox"]}',
    "zero": b'{"prompts": ["a\\u0000fox"]}',
    "half": b'{"prompts": ["a \\ud83e fox"]}',
    "no words": b'{"prompts": ["", "\\u200b"]}',
    "far": b'{"0": "a fox", "999999999999": "a hen"}',
    "huge": b'{"segments": [{"start": ' + b"9" * 4000 + b', "length": 1, "prompt": "a fox"}]}',
    "fast": b'{"segments": [], "settings": {"frame_rate": ' + b"9" * 400 + b"}}",
    "nan": b'{"segments": [{"start": NaN, "length": 1, "prompt": "a fox"}]}',
    "infinite": b'{"segments": [{"start": 0, "length": 1e999, "prompt": "a fox"}]}',
    "backward": b'{"segments": [{"start": 0, "length": -5, "prompt": "a fox"}]}',
    "types": b'{"scenes": [{"video_prompts": "a fox"}]}',
    "no scenes": b'{"scenes": {"a": 1}}',
    "true": b'{"timeline": true}',
    "caption": b'{"global_caption": "x", "shot1": 7}',
    "speed": b'{"prompts": {"0": "a fox"}, "fps": 1e-9, "max_frames": 5}',
    "frame": b'{"prompts": {"max_f/2": "a fox"}}',
    "digit": '{"prompts": {"\u00b2": "a fox"}}'.encode(),
    "rubbish": b'"0": "a fox" and more',
    "open": b'"0": "a fox',
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_wrong_is_said_in_words(place, kind, capsys):
    (place / "theirs.json").write_bytes(HOSTILE[kind])
    began = time.perf_counter()
    assert main(["open", "theirs.json"]) == 2
    assert time.perf_counter() - began < 10
    said = capsys.readouterr()
    assert not said.out and said.err.startswith("grounded: ") and "fix: " in said.err and len(said.err) < 1200


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("2,../../outside.json,", "not beside it"),
        ("2,/etc/passwd,", "not beside it"),
        ("2,01.json,\"[[0, 81], [81, 9]]\"", "lasts -4.5 s"),
        ("2,01.json,\"[[0, 81], 7]\"", "frame_number is"),
        ("2,01.json,\"" + "[" * 30_000 + '"', "nested"),
        ("2,list.csv,", "Expecting value"),
        ("2,,", "names no captions"),
        ('2,"01.json', "unexpected end"),
    ],
)  # fmt: skip
def test_lists_that_lead_nowhere(place, row, said, refused):
    (place / "outside.json").write_text('{"shot1": "a secret"}')
    (place / "captions" / "list.csv").write_text(f"shot_num_from_caption,json_path,frame_number\n{row}\n")
    assert said in refused("open", "captions/list.csv")


@pytest.mark.parametrize("name", BECOMES)
@pytest.mark.parametrize("change", ["mark", "returns"])
def test_marks_and_line_ends_of_other_systems_change_nothing(place, name, change, printed):
    data = Path(name).read_bytes()
    Path(name).write_bytes(b"\xef\xbb\xbf" + data if change == "mark" else data.replace(b"\n", b"\r\n"))
    assert parse(printed("open", name)) == parse(BECOMES[name][1])


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from([name for name in BECOMES if name.endswith(".json")]), st.data())
def test_any_value_in_any_place_ends_in_words_or_in_a_storyboard(name, data):
    whole = json.loads((THEIRS / name).read_text(encoding="utf-8"))
    at = data.draw(st.sampled_from(list(places(whole))))
    try:
        board = read_theirs(json.dumps(changed(whole, at, data.draw(values))), Path(name))
        assert isinstance(board, Storyboard) and parse(format_storyboard(board)) == board
    except GroundedError as error:
        assert error.message and error.fix


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 999), st.text('abc {}|\\"\u200b\u3000#@:then雪\n', max_size=12)), min_size=1
    )
)
def test_schedules_are_read_as_they_are_written(parts):
    """Every prompt begins at its frame, whichever letters are in it."""
    frame, entries = 0, {}
    for length, prompt in parts:
        entries[str(frame)] = prompt
        frame += length
    try:
        board = read_theirs(json.dumps(entries), Path("schedule.json"), 16)
    except GroundedError as error:
        assert "no prompt" in error.message
        return
    assert parse(format_storyboard(board)) == board
    ends = sum(segment.seconds for segment in board.segments[:-1])
    begins = [int(frame) / 16 for frame, prompt in entries.items() if prompt.strip(" \u200b\u3000\n")]
    assert len(begins) == len(board.segments)
    assert len(begins) == 1 or abs(ends - begins[-1]) < 0.0001 * len(begins)


@pytest.mark.parametrize(
    "prompt", ["{{a}}", "{{{fox}}} {b}", "{a{b}c}", "{" * 9 + "a" + "}" * 9, "{a" * 9 + "}" * 9]
)
def test_nested_braces_of_others_name_nobody(prompt):
    board = read_theirs(json.dumps({"0": prompt}), Path("schedule.json"), 16)
    assert parse(format_storyboard(board)) == board and "{" not in board.segments[0].prompt


def test_what_is_pasted_has_a_longest_length(monkeypatch):
    text = (THEIRS / "multishot.txt").read_text()
    monkeypatch.setattr(others, "LONGEST", len(text))
    board, said = others.understood(text)
    assert others.pasted(text) == (format_storyboard(board), said)
    with pytest.raises(GroundedError, match="too long for a storyboard"):
        others.pasted(text + "\n")
    with pytest.raises(GroundedError, match="no other program's"):
        others.pasted("a fox")
