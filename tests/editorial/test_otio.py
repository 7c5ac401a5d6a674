"""Storyboards to edits and back: equal without changes, and an editor's changes taken over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gf_core.cli import main
from gf_core.editorial import Span, read_edit, write_edit
from gf_core.errors import GroundedError
from gf_core.timeline import Picture, Segment, Storyboard, format_storyboard, make_plan, parse
from gf_core.words import exact_rate

from ..nested import changed, places

ROOT = Path(__file__).parents[2]

otio = pytest.importorskip("opentimelineio", reason="OpenTimelineIO is not installed")

TEXT = """\
@seed 7
@style soft light
@cast fox = a red fox
{fox} runs | 1.5s
then: it jumps | 1.5s | blend 1.5s | recache 0.25
cut: a hen | 2s | mute
cut: {fox} sleeps | 3s | seed 9007199254740991
scene: a harbour | 2s
"""

words = st.text("abc {}|\\üñ雪'\"#@:", min_size=1, max_size=12).map(str.strip).filter(bool)
seconds = st.floats(0.01, 3600, allow_nan=False)
share = st.none() | st.floats(0, 1)


@st.composite
def boards(draw):
    """Any storyboard value, also such as no text can say."""
    parts = []
    for number in range(draw(st.integers(1, 6))):
        verb = draw(st.sampled_from(["then", "cut", "scene"])) if number else "start"
        smooth = {"recache": draw(share), "blend": draw(st.none() | seconds)} if verb == "then" else {}
        seed = draw(st.none() | st.integers(0, 2**53 - 1))
        parts.append(Segment(verb, draw(words), draw(seconds), seed, mute=draw(st.booleans()), **smooth))
    cast = draw(st.dictionaries(words, words, max_size=3))
    pictures = {name: Picture(f"{name}.png") for name in cast if draw(st.booleans())}
    return Storyboard(
        draw(st.integers(1, 120)), draw(st.integers(0, 2**53 - 1)), draw(words), cast, tuple(parts), pictures
    )


def spans_of(board):
    start, spans = 0, []
    for index, segment in enumerate(board.segments):
        if not segment.mute:
            spans.append(Span(index, start, max(1, round(segment.seconds * board.fps))))
            start += spans[-1].frames
    return spans


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(boards())
def test_what_is_written_reads_back_equal(tmp_path, board):
    path = tmp_path / "cut.otio"
    write_edit(board, spans_of(board), path, "film.mp4")
    assert read_edit(path) == board
    assert list(read_edit(path).cast) == list(board.cast)


def written(tmp_path, film="film.mp4", name="cut.otio"):
    board = parse(TEXT)
    spans = [Span(part.index, part.start_frame, part.frames) for part in make_plan(board).segments]
    write_edit(board, spans, tmp_path / name, film)
    return board, spans, tmp_path / name


def test_clips_point_into_the_film_frame_by_frame(tmp_path):
    board, spans, path = written(tmp_path)
    clips = list(otio.adapters.read_from_file(str(path)).tracks[0])
    assert [clip.name for clip in clips] == [board.segments[span.index].prompt for span in spans]
    assert [(c.source_range.start_time.value, c.source_range.duration.value) for c in clips] == [
        (span.start, span.frames) for span in spans
    ]
    assert {clip.source_range.start_time.rate for clip in clips} == {16}
    assert clips[0].media_reference.target_url == "film.mp4"
    assert clips[0].media_reference.available_range.duration.value == spans[-1].start + spans[-1].frames
    assert [clip.metadata["grounded"]["shot"] for clip in clips] == [1, 1, 2, 3]


def test_an_editors_changes_are_taken_over(tmp_path):
    _, _, path = written(tmp_path)
    timeline = otio.adapters.read_from_file(str(path))
    track = timeline.tracks[0]
    first, second, third, fourth = list(track)
    second.source_range = otio.opentime.TimeRange(
        second.source_range.start_time, otio.opentime.RationalTime(8, 16)
    )
    third.enabled = False
    added = otio.schema.Clip("a ship\narrives", source_range=otio.opentime.TimeRange(
        otio.opentime.RationalTime(0, 24), otio.opentime.RationalTime(36, 24)))  # fmt: skip
    del track[:]
    track.extend([fourth, first, second, third, added])
    otio.adapters.write_to_file(timeline, str(path))
    found = read_edit(path)
    assert [(s.verb, s.prompt, s.mute) for s in found.segments] == [
        ("start", "a harbour", False),
        ("scene", "{fox} runs", False),
        ("then", "it jumps", False),
        ("cut", "a hen", True),
        ("cut", "{fox} sleeps", True),
        ("cut", "a ship arrives", False),
    ]
    assert (found.segments[2].seconds, found.segments[2].blend, found.segments[5].seconds) == (0.5, 0.5, 1.5)
    assert found.seed == 7 and found.style == "soft light"


@pytest.mark.parametrize(("loras", "warnings"), [([], 0), ([["ink", "0.5"]], 1)])
def test_edits_from_when_segments_had_loras_still_open(tmp_path, caplog, loras, warnings):
    board, _, path = written(tmp_path)
    timeline = otio.adapters.read_from_file(str(path))
    timeline.tracks[0][0].metadata["grounded"]["loras"] = loras
    otio.adapters.write_to_file(timeline, str(path))
    assert read_edit(path) == board
    assert [record.levelname for record in caplog.records] == ["WARNING"] * warnings


@pytest.mark.parametrize("name", ["cut.edl", "cut.fcpxml"])
def test_editing_programs_formats_keep_names_order_and_lengths(tmp_path, name):
    if {"cut.edl": "cmx_3600", "cut.fcpxml": "fcpx_xml"}[name] not in otio.adapters.available_adapter_names():
        pytest.skip("the plugin of OpenTimelineIO for this format is not installed")
    board, spans, path = written(tmp_path, name=name)
    board = board.without_cast()
    assert board.segments[0].prompt == "a red fox runs"
    if name == "cut.fcpxml":  # names keep their letters, clips point into the film one after the other
        clips = list(otio.adapters.read_from_file(str(path)).find_clips())
        assert [clip.name for clip in clips] == [board.segments[span.index].prompt for span in spans]
        assert {clip.media_reference.target_url for clip in clips} == {(tmp_path / "film.mp4").as_uri()}
        starts = [clip.source_range.start_time.to_seconds() for clip in clips]
        assert starts == pytest.approx([span.start / 16 for span in spans], abs=1 / 24)
    found = parse(format_storyboard(read_edit(path)))  # it needs no cast
    assert [segment.prompt.lower() for segment in found.segments] == [
        board.segments[span.index].prompt.lower() for span in spans
    ]
    for segment, span in zip(found.segments, spans):
        assert abs(segment.seconds - span.frames / 16) <= 1 / 24


@pytest.mark.parametrize("film", [None, "my first film.mp4", "狐狸 film.mp4"])
@pytest.mark.parametrize("fps", ["16", "23.976", "29.97", "59.94"])
@pytest.mark.parametrize("name", ["cut.edl", "cut.fcpxml"])
def test_every_rate_and_name_of_a_film_can_be_read_back(tmp_path, name, fps, film):
    if {"cut.edl": "cmx_3600", "cut.fcpxml": "fcpx_xml"}[name] not in otio.adapters.available_adapter_names():
        pytest.skip("the plugin of OpenTimelineIO for this format is not installed")
    board = parse(f"@fps {fps}\na red fox jumps | 1s\ncut: a blue owl sleeps | 2s")
    write_edit(board, [Span(0, 0, 21), Span(1, 21, 45)], tmp_path / name, film)
    found = read_edit(tmp_path / name)
    assert [segment.prompt for segment in found.segments] == ["a red fox jumps", "a blue owl sleeps"]
    lengths = [float(count / exact_rate(board.fps)) for count in (21, 45)]
    assert [segment.seconds for segment in found.segments] == pytest.approx(lengths, abs=1 / 20)


def test_what_cannot_be_read_is_said(tmp_path, monkeypatch):
    with pytest.raises(GroundedError, match="no edit"):
        read_edit(tmp_path / "none.otio")
    (tmp_path / "bad.otio").write_text("{")
    with pytest.raises(GroundedError, match="cannot be read"):
        read_edit(tmp_path / "bad.otio")
    with pytest.raises(GroundedError, match="known here"):
        written(tmp_path, name="cut.txt")
    monkeypatch.setitem(sys.modules, "opentimelineio", None)
    with pytest.raises(GroundedError, match="pip install opentimelineio"):
        read_edit(tmp_path / "bad.otio")


def test_the_command_line_exports_and_opens(tmp_path, monkeypatch, capsys, printed):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "board.txt").write_text(TEXT, encoding="utf-8")
    assert "4 clips" in printed("export", "board.txt", "out/cut.otio")
    assert parse(printed("open", "out/cut.otio")) == parse(TEXT)
    assert main(["plan", "out/cut.otio", "--size", "100x64"]) == 2  # refused as by render, after the table
    said = capsys.readouterr()
    assert "harbour" in said.out and "does not fit the model's grid" in said.err


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "{", "[]", '{"OTIO_SCHEMA": "Timeline.1"}', ""]
)
def test_damaged_edits_are_refused_in_words(tmp_path, text):
    path = tmp_path / "edit.otio"
    path.write_text(text)
    with pytest.raises(GroundedError):
        read_edit(path)


@pytest.mark.parametrize("film", ["a b.mp4", "50%#1.mp4", "狐狸's.mp4", "../elsewhere/a&b.mp4", 'a"b.mp4'])
def test_final_cut_gets_addresses_in_an_event_of_a_library(tmp_path, film):
    if "fcpx_xml" not in otio.adapters.available_adapter_names():
        pytest.skip("the plugin of OpenTimelineIO for this format is not installed")
    board = parse("@fps 24\nthe fox's den & <home> | 1s\ncut: it's \"late\" | 1s")
    path = tmp_path / "out" / "cut.fcpxml"
    write_edit(board, spans_of(board), path, film)
    root = ElementTree.parse(path).getroot()
    assert [child.tag for child in root] == ["resources", "library"]
    clips = root.findall("./library/event/project/sequence/spine/clip")
    assert [clip.get("name") for clip in clips] == [segment.prompt for segment in board.segments]
    address = urlsplit(root.find("./resources/asset").get("src"))
    assert address.scheme == "file" and not address.fragment and address.path.isascii()
    assert unquote(address.path) == os.path.abspath(path.parent / film)
    assert [segment.prompt for segment in read_edit(path).segments] == [clip.get("name") for clip in clips]


NO_TRACKS = [
    '{"OTIO_SCHEMA":"Timeline.1","tracks":null}',
    '{"OTIO_SCHEMA":"Timeline.1","tracks":{"OTIO_SCHEMA":"Gap.1"}}',
    '{"OTIO_SCHEMA":"SerializableCollection.1","children":[{"OTIO_SCHEMA":"Timeline.1","tracks":null}]}',
    '{"OTIO_SCHEMA":"Timeline.1","tracks":{"OTIO_SCHEMA":"Stack.1","children":[{"OTIO_SCHEMA":"Timeline.1"}]}}',
]


def test_a_timeline_without_tracks_ends_in_words_and_not_the_program(tmp_path):
    """In a process of its own: what goes wrong here is a segmentation fault."""
    for number, text in enumerate(NO_TRACKS):
        (tmp_path / f"{number}.otio").write_text(text)
    program = f"""
from gf_core.editorial import read_edit
from gf_core.errors import GroundedError
for number in range({len(NO_TRACKS)}):
    try:
        read_edit({str(tmp_path)!r} + f"/{{number}}.otio")
    except GroundedError as error:
        print("words")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and done.stdout.split() == ["words"] * len(NO_TRACKS), done


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"source_range": 5}, "expected type TimeRange under key 'source_range': found a whole number"),
        ({"metadata": []}, "type AnyDictionary under key 'metadata'"),
        ({"enabled": "yes"}, "expected true or false under key 'enabled'"),
        ({"OTIO_SCHEMA": "Fox.1"}, "expected to read a Composable, found a UnknownSchema"),
        ({"OTIO_SCHEMA": "Track.1"}, "something is missing: .*'Track'"),
    ],
)
def test_what_does_not_fit_is_said_without_names_of_the_librarys_inside(tmp_path, value, said):
    edit = {"OTIO_SCHEMA": "Timeline.1", "tracks": {"OTIO_SCHEMA": "Stack.1", "children": [
        {"OTIO_SCHEMA": "Track.1", "kind": "Video", "children": [{"OTIO_SCHEMA": "Clip.1", "name": "a fox", **value}]}
    ]}}  # fmt: skip
    (tmp_path / "x.otio").write_text(json.dumps(edit))
    with pytest.raises(GroundedError, match=said) as caught:
        read_edit(tmp_path / "x.otio")
    assert "opentime" not in str(caught.value)


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("length", [None, otio.opentime.TimeRange(duration=otio.opentime.RationalTime(9, 0))])
def test_clips_without_a_length_are_taken(tmp_path, caplog, own, length):
    board, spans, path = written(tmp_path)
    timeline = otio.adapters.read_from_file(str(path))
    for clip in list(timeline.tracks[0]):
        clip.source_range, clip.media_reference = length, otio.schema.MissingReference()
        if not own:
            del clip.metadata["grounded"]
    otio.adapters.write_to_file(timeline, str(path))
    found = [segment for segment in read_edit(path).segments if not segment.mute]
    kept = [board.segments[span.index] for span in spans]
    assert [segment.prompt for segment in found] == [segment.prompt for segment in kept]
    assert [segment.seconds for segment in found] == [segment.seconds if own else 5 for segment in kept]
    assert sum("has no length" in line for line in caplog.messages) == len(found)


STRANGE = [
    None,
    0,
    -1,
    1e308,
    "",
    "x",
    [],
    [None],
    {},
    True,
    {"OTIO_SCHEMA": "Clip.1"},
    {"OTIO_SCHEMA": "No.9"},
]


def test_any_wrong_value_ends_in_words_or_in_a_storyboard(tmp_path):
    whole = json.loads(written(tmp_path)[2].read_text())
    path = tmp_path / "wrong.otio"
    for number, at in enumerate(places(whole)):
        if at == ("tracks",):
            continue  # ends the program where it is not looked for first: tried above
        path.write_text(json.dumps(changed(whole, at, STRANGE[number % len(STRANGE)])))
        try:
            assert isinstance(read_edit(path), Storyboard), at
        except GroundedError as error:
            assert error.fix, at


def test_what_goes_back_follows_its_segment_through_an_edit(tmp_path, caplog):
    board = parse(
        "a fox | 2s\ncut: a hen | 2s\ncut: a boat | 2s\n"
        "back to 1: it | 2s | motion\nback to 3: it | 2s\nback to 1: so | 2s | mute"
    )
    spans = [Span(part.index, part.start_frame, part.frames) for part in make_plan(board).segments]
    path = tmp_path / "cut.otio"
    write_edit(board, spans, path)
    assert read_edit(path) == board
    timeline = otio.adapters.read_from_file(str(path))
    track = timeline.tracks[0]
    fox, hen, boat, first, second = list(track)
    del track[:]
    track.extend([hen, fox, fox.clone(), first, second, boat])
    otio.adapters.write_to_file(timeline, str(path))
    found = read_edit(path).segments
    assert [(s.verb, s.back, s.motion) for s in found[3:]] == [
        ("back", 3, True), ("cut", None, False), ("back", 3, False), ("cut", None, False)
    ]  # fmt: skip
    assert "does not go back but cuts" in caplog.text
