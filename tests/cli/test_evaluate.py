"""`grounded evaluate` on films of the built-in model, of another one, of another program, and on folders of them."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gf_core.cli import main
from gf_core.engine.recorded import read_recorded
from gf_core.evaluation.films_table import films_table
from gf_core.evaluation.measures.cuts import detected_cuts, match_cuts
from gf_core.evaluation.over_time import frame_values
from gf_core.video import Chapter, place_film, read_chapters, read_metadata

from ..films import film_at

BUILTIN = Path(__file__).parents[1] / "fixtures/made_before/builtin.mp4"


@pytest.fixture
def other(place):
    """A film that says what the fixture says of itself, but for the model."""
    film_at(place / "frames.mp4", np.random.default_rng(0).integers(0, 255, (33, 32, 48, 3), np.uint8))
    said = read_metadata(BUILTIN)
    said["grounded"] = json.loads(said["grounded"])
    said["grounded"]["settings"]["model"]["name"] = "longlive.pt"
    chapters = read_chapters(BUILTIN)
    return str(place_film(place / "frames.mp4", place / "other.mp4", metadata=said, chapters=chapters))


@pytest.fixture
def without_scenedetect(monkeypatch):
    monkeypatch.setitem(sys.modules, "scenedetect", None)


def test_a_film_of_the_builtin_model_is_read_as_its_own_storyboard_says(capsys):
    assert main(["evaluate", str(BUILTIN), "--json", "numbers.json", "--chart", "chart.png"]) == 0
    told, found = capsys.readouterr().out, json.loads(Path("numbers.json").read_text())
    assert "follows the prompt" in told and "first to last 15 %" in told and "chunk borders" in told
    assert found["over_time"]["borders"] > 0 and set(found["over_time"]["drift"]) == {
        "sharpness", "contrast", "saturation", "motion",
    }  # fmt: skip
    assert Path("chart.png").stat().st_size > 10_000


def test_a_film_of_another_model_is_measured_without_being_read(other, without_scenedetect, capsys, refused):
    assert main(["evaluate", other, "--json", "numbers.json"]) == 0
    told, found = capsys.readouterr().out, json.loads(Path("numbers.json").read_text())
    assert "follows the prompt" not in told and "borders" in found["over_time"]
    assert "PySceneDetect" in found["over_time"]["left_out"]["cuts"] and "scenedetect]" in told
    assert "not measured         identity: only films of the built-in model can be read" in told
    assert "grounded drift" in refused("evaluate", other, "--chart", "chart.png")


def test_a_film_of_the_builtin_model_in_a_size_that_cannot_be_read(
    other, without_scenedetect, monkeypatch, printed
):
    monkeypatch.setattr(
        "gf_core.evaluation.film.recorded", lambda path: replace(read_recorded(path), model="builtin")
    )
    assert "identity: the film is 48x32" in printed("evaluate", other)


def test_borders_of_a_film_that_another_program_cut_are_not_told(
    other, monkeypatch, without_scenedetect, printed
):
    chapters = [Chapter(0, 1.0, "1"), Chapter(1.0, 2.0, "2")]
    monkeypatch.setattr("gf_core.evaluation.parts.read_chapters", lambda path: chapters)
    assert "not measured         borders: the film was cut" in printed("evaluate", other)


@pytest.fixture
def retold(other):
    """`retold("a.mp4", grounded={})`: the film `other` with other metadata or chapters."""

    def write(name, chapters=None, **metadata):
        chapters = read_chapters(BUILTIN) if chapters is None else chapters
        said = {name: value for name, value in (read_metadata(other) | metadata).items() if value is not None}
        return str(place_film(Path("frames.mp4"), Path(name), metadata=said, chapters=chapters))

    return write


@pytest.mark.parametrize(
    ("left", "why"),
    [
        ({"grounded": {"settings": {}}}, "it does not say how it was made"),
        ({"grounded": None, "timeline": None, "comment": None}, "there is no storyboard in it"),
        ({"chapters": []}, "its chapters, which say where its segments lie, are gone"),
    ],
)
def test_a_film_that_does_not_tell_its_segments_is_one_and_it_is_said(
    left, why, retold, without_scenedetect, printed
):
    film = retold("told.mp4", **left)
    one = f"taken as one, as {why}"
    told = printed("evaluate", film, "--json", "numbers.json")
    assert f"not measured         segments: {one}: --storyboard FILE gives them" in told
    assert one in json.loads(Path("numbers.json").read_text())["over_time"]["left_out"]["segments"]
    assert f"segments  {one}" in printed("drift", film)
    Path("films").mkdir()
    for name in ("films/a.mp4", "films/b.mp4"):
        shutil.copy(film, name)
    assert f"segments of 2 films: {one}" in printed("evaluate", "films")


def test_a_film_that_tells_its_segments_says_nothing_of_them(other, without_scenedetect, printed):
    assert "segments" not in printed("evaluate", other) and "segments" not in printed("drift", other)


def test_a_long_name_has_a_chart_of_its_own(place, other, printed, refused):
    """It was refused when all was measured."""
    names = ["é" * 125 + letter for letter in "ab"]
    for name in names:
        shutil.copy(other, place / f"{name}.mp4")
        printed("drift", f"{name}.mp4")
    assert len(list(place.glob("éé*_drift.png"))) == 2
    for command in (["evaluate", other, "--json"], ["drift", other]):
        assert "it has 256 bytes" in refused(*command, "x" * 251 + ".json")


def test_drift_of_a_film_of_the_builtin_model_in_a_size_that_cannot_be_read(retold, other, printed, caplog):
    said = json.loads(read_metadata(other)["grounded"])
    said["settings"]["model"]["name"] = "builtin"
    told = printed("drift", retold("sized.mp4", grounded=said))
    assert "background" in told and "identity" not in told
    assert "identity is not measured: the film is 48x32" in caplog.text


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["none.mp4"], "none.mp4"),
        (["clip.mp4", "--storyboard", "film.txt"], "32x32"),
    ],
)
def test_what_cannot_be_measured_is_said_in_words(words, why, clip, refused):
    assert why in refused("evaluate", *words)


def test_a_folder_is_a_table_and_names_what_is_left_out(other, clip, capsys, printed, refused):
    Path("films/more").mkdir(parents=True)
    shutil.copy(other, "films/a.mp4")
    shutil.copy(other, "films/more/b.mp4")
    assert main(["evaluate", "films", "--json", "numbers.json"]) == 0
    out, err = capsys.readouterr()
    assert "film 1 of 2, a.mp4\nfilm 2 of 2, more/b.mp4\n" in err
    rows = [line.split(" | ") for line in out.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows] == ["| film", "| a.mp4", "| more/b.mp4", "| mean"]
    assert rows[0][1:3] == ["seconds", "sharpness"]  # nobody can read these films
    assert [film["film"] for film in json.loads(Path("numbers.json").read_text())["films"]] == [
        "a.mp4",
        "more/b.mp4",
    ]
    shutil.copy(clip, "films/c.mp4")  # of another program: a single shot
    assert "borders of 1 film: the film does not say" in printed("evaluate", "films")
    Path("films/d.mp4").write_bytes(b"no film")
    assert "d.mp4 is left out" in refused("evaluate", "films")


def test_means_of_films_have_an_interval_and_gaps_do_not_count():
    drift = {"sharpness": -0.1, "contrast": 0.0, "saturation": 0.2, "motion": float("nan")}
    films = [
        {"film": name, "seconds": 2.0, "identity": {"hidden": kept}, "over_time": {"drift": drift}}
        for name, kept in (("a", 0.5), ("b", 0.7))
    ]
    films.append(
        {
            "film": "c|\n",
            "seconds": 1.0,
            "over_time": {"drift": drift, "cuts": match_cuts([8, 20], [8, 3], 1)},
        }
    )
    assert films_table(films, {}) == [
        "| film | seconds | identity | sharpness | contrast | saturation | cuts |",
        "|---|---|---|---|---|---|---|",
        "| a | 2.0 | 50 % | -10 % | +0 % | +20 % | — |",
        "| b | 2.0 | 70 % | -10 % | +0 % | +20 % | — |",
        "| c\\|\\n | 1.0 | — | -10 % | +0 % | +20 % | 1 of 2 seen, 1 more |",
        "| mean | | 60 % (50 % to 70 %) | -10 % (-10 % to -10 %) | +0 % (+0 % to +0 %) | +20 % (+20 % to +20 %) |  |",
    ]


@pytest.mark.parametrize(
    "words", [["takes"], ["films", "--storyboard", "film.txt"], ["films", "--chart", "a.png"]]
)
def test_a_folder_of_nothing_and_options_of_one_film(words, refused):
    Path("takes").mkdir()
    Path("films").mkdir()
    assert ("no films" if words == ["takes"] else "one film") in refused("evaluate", *words)


def test_values_of_a_frame():
    grey, red = np.full((32, 48, 3), 90, np.uint8), np.zeros((32, 48, 3), np.uint8)
    red[:, :24, 0] = 255
    values = frame_values([grey, grey, red])
    assert all(values[name][:2] == pytest.approx([0, 0], abs=1e-6) for name in values)
    assert values["saturation"][2] == pytest.approx(0.5) and values["sharpness"][2] > 0
    assert values["contrast"][2] == pytest.approx(1 / 6) and values["motion"][2] > 0.2
    assert all(len(row) == 0 for row in frame_values([]).values())


def test_each_cut_is_seen_once():
    assert match_cuts([10, 40, 80], [12, 38, 41, 95], 4) == {
        "seen": [10, 40],
        "missed": [80],
        "extra": [38, 95],
    }


def test_cuts_are_looked_for_where_they_are_written(place):
    pytest.importorskip("scenedetect", reason="PySceneDetect is not installed")
    rng = np.random.default_rng(0)
    shots = [np.repeat(rng.integers(0, 255, (8, 12, 3), np.uint8), 8, 0).repeat(8, 1) for _ in range(3)]
    film_at(place / "cut.mp4", np.concatenate([np.repeat(shot[None], 16, 0) for shot in shots]))
    assert detected_cuts(place / "cut.mp4") == [16, 32]
