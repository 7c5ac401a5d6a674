"""`grounded watch`: a film for every time that its storyboard is saved, by a model that is opened once."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from PIL import Image

from gf_core.cli import main
from gf_core.cli.screen import Screen
from gf_core.cli.watch import stamps_of, wait
from gf_core.engine.events import StepDone

from ..films import packets
from .tiny import FILM

WATCH = ["watch", "film.txt", "--device", "cpu", "--no-sheet"]


@pytest.fixture
def editor(place, monkeypatch):
    """An artist: what is given is done in moments of waiting, one by one; then comes Ctrl-C. A text is saved, "" is a
    rest, None moves the file away, anything else is called.
    """
    given = []

    def moment(seconds):
        if not given:
            raise KeyboardInterrupt
        if (what := given.pop(0)) is None:
            (place / "film.txt").unlink()
        elif callable(what):
            what()
        elif what:
            (place / "film.txt").write_text(what, encoding="utf-8")

    monkeypatch.setattr("gf_core.cli.watch.time", SimpleNamespace(sleep=moment))
    return given


def films(place):
    return sorted(path.name for path in (place / "films").glob("*.mp4"))


def test_every_save_gives_a_film_and_the_model_stays_open(place, model, editor, capsys):
    editor += [FILM.replace("a hen", "a goose"), ""]
    assert main(WATCH) == 0
    assert films(place) == ["film-2.mp4", "film.mp4"] and len(model) == 1
    told = capsys.readouterr()
    assert "2 of 3 segments are as they were" in told.err and "films/film-2.mp4" in told.out.replace(
        "\\", "/"
    )
    assert told.err.count("waiting for film.txt to be saved; Ctrl-C ends") == 2
    assert packets(place / "films/film.mp4")[:45] == packets(place / "films/film-2.mp4")[:45]


def test_a_mistake_is_told_and_waited_for(place, model, editor, capsys):
    editor += ["a fox | never", "", FILM + "then: a duck | 0.75s", ""]
    assert main(WATCH) == 0
    told = capsys.readouterr().err
    assert "grounded: line 1, column 9" in told and "3 of 4 segments are as they were" in told
    assert films(place) == ["film-2.mp4", "film.mp4"]


def test_the_first_text_may_be_the_mistake(place, model, editor, capsys):
    (place / "film.txt").write_text("a fox | never")
    editor += [FILM, ""]
    assert main(WATCH) == 0
    assert films(place) == ["film.mp4"] and "column 9" in capsys.readouterr().err


def test_a_text_that_is_saved_meanwhile_breaks_its_film_off(place, model, editor, monkeypatch, capsys):
    tell, seen = Screen.tell, []

    def told(screen, event):
        tell(screen, event)
        if isinstance(event, StepDone):
            seen.append(event)
            if len(seen) == 5:  # the third chunk has begun
                (place / "film.txt").write_text(FILM.replace("a hen", "a goose"), encoding="utf-8")

    monkeypatch.setattr(Screen, "tell", told)
    editor += ["", ""]
    assert main(WATCH) == 0
    assert films(place) == ["film.mp4"]
    assert "film.txt was saved: what is finished of this film is used in the next" in capsys.readouterr().err
    assert len(seen) < 2 * 2 * 5  # two steps of five chunks, twice
    assert (place / "takes/film/run-0002").is_dir()


def test_a_text_that_is_moved_away_meanwhile_and_back_is_made(place, model, editor, monkeypatch):
    """Nothing tells it from the one whose film was broken off."""
    tell, seen = Screen.tell, []

    def told(screen, event):
        tell(screen, event)
        if isinstance(event, StepDone):
            seen.append(event)
            if len(seen) == 5:
                (place / "film.txt").rename(place / "away.txt")

    monkeypatch.setattr(Screen, "tell", told)
    editor += ["", lambda: (place / "away.txt").rename(place / "film.txt"), "", ""]
    assert main(WATCH) == 0
    assert films(place) == ["film.mp4"]


def test_ctrl_c_in_the_midst_of_a_film_says_what_is_kept(place, model, editor, monkeypatch, capsys):
    def stopped(screen, event):
        raise KeyboardInterrupt

    monkeypatch.setattr(Screen, "tell", stopped)
    assert main(WATCH) == 130 and "stopped" in capsys.readouterr().err


def test_a_text_is_read_when_it_lies_still(place, editor):
    editor += ["a", "a fox", None, "", "a fox runs", "a fox runs | 2s", "", "too late"]
    wait(stamps_of([place / "film.txt"]))
    assert (place / "film.txt").read_text() == "a fox runs | 2s" and editor == ["too late"]


def test_a_picture_of_the_cast_is_waited_for(place, model, editor, capsys):
    text = "@cast fox = a red fox | fox.png\n" + FILM.replace("a fox", "{fox}")
    (place / "film.txt").write_text(text, encoding="utf-8")
    editor += [lambda: Image.new("RGB", (32, 32), "red").save("fox.png"), ""]
    assert main(WATCH) == 0
    assert "there is no picture fox.png" in capsys.readouterr().err and films(place) == ["film.mp4"]


@pytest.mark.parametrize("name", ["-", "films/film.mp4"])
def test_what_nobody_edits_is_not_watched(place, name, refused):
    assert "cannot be watched" in refused("watch", name)


def test_a_model_that_is_not_there_is_not_waited_for(place, refused):
    assert "missing.pt" in refused(*WATCH, "--model", "missing.pt")
