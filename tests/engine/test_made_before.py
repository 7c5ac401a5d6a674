"""A Take and a film made by an earlier version (2026-11-26, commit 908faba) still open, render and go on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from gf_core.engine import film as film_module
from gf_core.engine.events import ChunkDone, Finished, Reused, StepDone
from gf_core.engine.recorded import read_recorded, read_timeline
from gf_core.files.pieces import digest
from gf_core.take import facts
from gf_core.take.folder import Run, Take
from gf_core.take.states import StateStore
from gf_core.video import probe

OLD = Path(__file__).parents[1] / "fixtures" / "made_before"
TEXT = (OLD / "film.take" / "run-0001" / "timeline.txt").read_text(encoding="utf-8")


@pytest.fixture
def old(tmp_path: Path, monkeypatch) -> Path:
    """A copy of the Take, on the machine that it was made on as far as keys can tell."""
    shutil.copytree(OLD / "film.take", tmp_path / "film.take")
    settings = json.loads((OLD / "film.take" / "run-0001" / "settings.json").read_text(encoding="utf-8"))
    monkeypatch.setattr(facts, "kernels", lambda *_: settings["machine"])
    monkeypatch.setattr(film_module, "picture_facts", lambda *_: settings["pictures"])
    return tmp_path / "film.take"


def test_of_its_finished_part_only_the_pictures_are_made_again(bundle, films, old, caplog):
    """Its journal has no sums of the film, so that nothing tells whether the pictures are what they were."""
    caplog.set_level("INFO")
    with Take.open(old) as take:
        events = films.events(bundle, TEXT, take, until=3)
        again = films.events(bundle, TEXT, take, until=3)
    assert not films.told(events + again, StepDone) and films.told(events, Reused)[0].chunks == 5
    assert len(films.told(events, ChunkDone)) == 5 and not films.told(again, ChunkDone), "once"
    assert caplog.text.count("made before films had sums") == 1
    assert films.told(again, Finished)[0].path == old / "run-0002" / "film.mp4"


def test_the_rest_of_it_is_made_from_there(bundle, films, old):
    before = Run(OLD / "film.take" / "run-0001")
    events, run = films.render(bundle, old, TEXT)
    assert {event.index for event in films.told(events, StepDone)} == {5}
    for index in range(5):
        assert run.latents(index).read_bytes() == before.latents(index).read_bytes()
    assert probe(run.film).frames == 9 + 5 * 12


def test_its_states_are_those_of_today(bundle, old):
    """The sampler's state reads, and what it says of itself is the same again."""
    names = [r["name"] for r in Run(old / "run-0001").records() if r["kind"] == "state"]
    assert any(name.endswith(".memory") for name in names)
    store = StateStore(old / "states", names)
    for name in (name for name in names if name.endswith(".memory")):
        state = store.load(name)
        sampler = bundle.sampler(bundle.recipe)
        assert state is not None
        sampler.restore(state)
        assert digest(sampler.snapshot()) == digest(state)


def test_a_finished_film_says_how_it_was_made():
    recorded = read_recorded(OLD / "builtin.mp4")
    assert recorded.builtin and recorded.recipe.memory.anchors == 3 and recorded.recipe.video.fps == 16
    assert read_timeline(OLD / "builtin.mp4").startswith("a red fox walks right")
