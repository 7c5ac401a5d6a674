"""Reading back how a film was made: every value is of its type and range, or it is said in words."""

from __future__ import annotations

import json
from dataclasses import asdict

import av
import numpy as np
import pytest

from gf_core.config import Encoding, MemorySpec, SampleSpec, VideoSpec
from gf_core.engine import recorded
from gf_core.engine.recorded import Recorded, comment, read_recorded, read_timeline
from gf_core.errors import GroundedError, TakeError
from gf_core.memory.presets import PRESETS
from gf_core.video import place_film, read_metadata

from ..films import film_at
from ..nested import changed, places


def settings():
    return {
        "model": {"name": "builtin", "fingerprint": "f"},
        "machine": {"dtype": "float32", "device": "cpu", "threads": 2},
        "memory": asdict(MemorySpec(anchors=2)),
        "sample": asdict(SampleSpec(steps=(1000, 500))),
        "video": asdict(VideoSpec(32, 32)),
        "film": asdict(Encoding()),
        "segments": [{"verb": "start", "prompt": "a fox", "seed": 1}],
    }


@pytest.fixture
def film(monkeypatch):
    """Reads a film that carries this text as its `grounded`."""

    def read(whole):
        found = {"grounded": whole, "timeline": "a fox | 1s"}
        monkeypatch.setattr(recorded, "read_metadata", lambda path: found)
        return read_recorded("a.mp4")

    return read


@pytest.mark.parametrize(
    ("change", "said"),
    [({}, None), ({"rings": 3}, "newer version, with unknown rings"), ({"anchors": "3"}, "newer version")],
)
def test_settings_of_a_newer_version_are_named(film, change, said):
    whole = {"settings": settings() | {"memory": settings()["memory"] | change}, "start_image": False}
    if said is None:
        found = film(json.dumps(whole))
        assert found.recipe.sample == SampleSpec(steps=(1000, 500)) and found.encoding == Encoding()
        assert found.machine["threads"] == 2 and found.segments[0]["prompt"] == "a fox"
        return
    with pytest.raises(TakeError, match=said):
        film(json.dumps(whole))


@pytest.mark.parametrize("name", PRESETS)
def test_every_memory_that_there_is_reads_back(film, name):
    memory = asdict(PRESETS[name])
    found = film(json.dumps({"settings": settings() | {"memory": memory}, "start_image": False}))
    assert found.recipe.memory == PRESETS[name]


WRONG = {
    "memory": [
        None,
        5,
        "x",
        [],
        {"chunk": 0},
        {"chunk": -3},
        {"chunk": 10**9},
        {"alpha_max": 2},
        {"anchors": True},
    ],
    "sample": [
        None,
        {"steps": []},
        {"steps": [1e9]},
        {"first_chunk_frames": 0},
        {"steps": [-1]},
        {"shift": 0},
        {"steps": [1] * 9999},
    ],
    "video": [
        None,
        {"fps": 0},
        {"fps": 121},
        {"width": 0},
        {"height": -16},
        {"width": 10**400},
    ],
    "film": [None, {"quality": 99}, {"quality": -1}, {"upscale": 0}, {"upscale": "2"}, {"codec": None}],
    "model": [
        None,
        {},
        {"name": 5, "fingerprint": "f"},
        {"name": "x", "fingerprint": 5},
        "builtin",
        ["name"],
    ],
    "machine": [None, {}, 7, {"dtype": "float32", "device": 5}, [["dtype", "float32"]]],
    "segments": [
        None,
        5,
        "x",
        [5],
        [{}],
        [{"verb": None, "prompt": "x"}],
        [{"verb": "cut", "prompt": ["x"]}],
    ],
}


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in WRONG.items() for value in values]
)
def test_a_wrong_value_ends_in_words(film, key, value):
    with pytest.raises(TakeError) as told:
        film(json.dumps({"settings": settings() | {key: value}, "start_image": False}))
    assert told.value.fix


@pytest.mark.parametrize(
    "dtype", ["../x", "int8", "complex64", "load", "", None, 5, ["float32"], "__class__"]
)
def test_a_number_type_that_there_is_not_is_the_devices_own(film, caplog, dtype):
    machine = {"dtype": dtype, "device": "cpu"}
    assert (
        film(json.dumps({"settings": settings() | {"machine": machine}, "start_image": False})).dtype is None
    )
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(
    "whole",
    ["", "null", "5", "[]", "{}", "{", '{"settings": 5, "start_image": 0}', "[" * 200_000,
     '{"a":' * 900 + "1" + "}" * 900, '{"settings": {}, "settings": {}}', '{"settings": ' + "9" * 5000 + "}"],
)  # fmt: skip
def test_damaged_settings_end_in_words(film, whole):
    with pytest.raises(TakeError, match="does not say how it was made"):
        film(whole)


STRANGE = [None, 0, -1, 10**30, 1e308, "", "x", [], [None], {}, True, [[]], {"a": 1}, "../x"]


def test_any_value_anywhere_is_read_or_refused(film):
    whole, refused = json.loads(json.dumps({"settings": settings(), "start_image": False})), 0
    for at in places(whole):
        for strange in STRANGE:
            try:
                found = film(json.dumps(changed(whole, at, strange)))
                assert isinstance(found, Recorded) and found.recipe.memory.chunk >= 1
            except GroundedError:
                refused += 1
    assert refused > 300


def copied_plainly(source, out):
    """As cutters and chat apps copy: the streams, and what their muxer keeps of the text."""
    with av.open(str(source)) as old, av.open(str(out), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        new.metadata.update(old.metadata)
        for packet in old.demux(old.streams.video[0]):
            if packet.size:
                packet.stream = stream
                new.mux(packet)
    return out


TEXT = '@seed 5\n# 狐狸 "quoted"\n\na fox | 1s\n\n\ncut: an owl | 1s\n'


def made(tmp_path, text=TEXT):
    film_at(tmp_path / "run.mp4", np.zeros((4, 16, 16, 3), np.uint8))
    texts = {"title": "fox", "comment": comment(text), "timeline": text, "grounded": {}}
    return place_film(tmp_path / "run.mp4", tmp_path / "film.mp4", metadata=texts)


@pytest.mark.parametrize("way", [[".mp4"], [".mov"], [".mkv"], [".mkv", ".mp4"], [".mp4", ".mov", ".mp4"]])
@pytest.mark.parametrize("text", [TEXT, TEXT * 500, "a fox | 1s", ""])
def test_the_storyboard_survives_a_plain_copy(tmp_path, way, text):
    path = made(tmp_path, text)
    for number, suffix in enumerate(way):
        path = copied_plainly(path, tmp_path / f"{number}{suffix}")
    assert suffix == ".mkv" or "timeline" not in read_metadata(path)
    assert read_timeline(path) == text


@pytest.mark.parametrize(
    "found",
    [{}, {"comment": "made by hand"}, {"comment": comment(TEXT)[:-3]}, {"comment": comment(TEXT) + "more"},
     {"comment": "made by Grounded Forcing"}, {"comment": ""}],
)  # fmt: skip
def test_a_comment_that_is_no_whole_storyboard_is_none(monkeypatch, found):
    monkeypatch.setattr(recorded, "read_metadata", lambda path: found)
    with pytest.raises(TakeError, match="there is no storyboard"):
        read_timeline("a.mp4")


def test_a_storyboard_of_millions_of_lines_is_refused(monkeypatch):
    monkeypatch.setattr(recorded, "read_metadata", lambda path: {"timeline": "cut: a fox\n" * 200_000})
    with pytest.raises(TakeError, match="2,200,000 characters"):
        read_timeline("a.mp4")
