"""`back to 2:` in a Take: whatever is stopped, lost or edited, the film has the bytes of one made in one go."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gf_core.config import MemorySpec
from gf_core.engine import recalled as recalled_module
from gf_core.engine import sheet as sheet_module
from gf_core.engine.events import Replayed, Reused
from gf_core.engine.film import Film, look
from gf_core.engine.making import preflight
from gf_core.engine.render import render_film
from gf_core.errors import StoryboardError, TakeError
from gf_core.sampling.director import Director
from gf_core.take.folder import Take
from gf_core.take.states import StateStore

from .conftest import flip, stopping

TEXT = (
    "a fox | 0.75s\nthen: it jumps | 1.5s\ncut: a hen | 1.5s\nback to 2: it rests | 1.5s\n"
    "then: it runs | 0.75s\nback to 1: it sleeps | 0.75s | motion"
)


def latents(run):
    return [run.latents(index).read_bytes() for index in range(len(run.committed()))]


@pytest.fixture(scope="module")
def whole(make_bundle, films, tmp_path_factory):
    """Latents and film of a film that was made in one go, and the folder of its Take."""
    folder = tmp_path_factory.mktemp("whole") / "take"
    _, run = films.render(make_bundle(), folder, TEXT)
    return latents(run), run.film.read_bytes(), folder


@pytest.mark.parametrize("lost", ["nothing", "states", "one bit of each"])
@pytest.mark.parametrize("at", [3, 5, 7])
def test_a_film_that_was_stopped_goes_on_to_the_same_bytes(make_bundle, films, tmp_path, whole, at, lost):
    with Take.open(tmp_path) as take, pytest.raises(KeyboardInterrupt):
        films.session(make_bundle(), TEXT, take).play(stopping(at))
    for path in (tmp_path / "states").glob("*.memory.safetensors"):
        if lost == "states":
            path.unlink()
        elif lost == "one bit of each":
            flip(path, -1)
    _, run = films.render(make_bundle(), tmp_path, TEXT)
    assert (latents(run), run.film.read_bytes()) == whole[:2]


@pytest.mark.parametrize(
    ("old", "new", "kept"),
    [("a hen", "a boat", 3), ("it jumps", "it hops", 1), ("it runs", "it walks", 7), (" | motion", "", 8)],
)
def test_an_edit_makes_again_what_follows_it_to_the_bytes_of_a_fresh_film(
    make_bundle, films, tmp_path, whole, old, new, kept
):
    films.render(make_bundle(), tmp_path / "take", TEXT)
    events, run = films.render(make_bundle(), tmp_path / "take", TEXT.replace(old, new))
    assert next(event.chunks for event in events if isinstance(event, Reused)) == kept
    _, fresh = films.render(make_bundle(), tmp_path / "fresh", TEXT.replace(old, new))
    assert latents(run) == latents(fresh)
    assert latents(run)[:kept] == whole[0][:kept]


@pytest.mark.parametrize(("at", "lost"), [(5, "000003"), (8, "000001")])
def test_a_memory_that_is_lost_right_where_it_is_wanted_is_made_anew(
    make_bundle, films, tmp_path, whole, at, lost
):
    """The film goes on with the very segment that goes back, and all other states are there."""

    with Take.open(tmp_path) as take, pytest.raises(KeyboardInterrupt):
        films.session(make_bundle(), TEXT, take).play(stopping(at))
    (state,) = (tmp_path / "states").glob(f"{lost}-*.memory.safetensors")
    state.unlink()
    _, run = films.render(make_bundle(), tmp_path, TEXT)
    assert (latents(run), run.film.read_bytes()) == whole[:2]


def test_a_memory_is_made_anew_where_the_very_next_segment_goes_back_to_it(make_bundle, films, tmp_path):
    text = "a fox | 0.75s\nthen: it jumps | 1.5s\nback to 2: it rests | 0.75s"
    _, fresh = films.render(make_bundle(), tmp_path / "fresh", text)
    films.render(make_bundle(), tmp_path / "take", text, until=2)
    (state,) = (tmp_path / "take" / "states").glob("000003-*.memory.safetensors")
    state.unlink()
    _, run = films.render(make_bundle(), tmp_path / "take", text)
    assert (latents(run), run.film.read_bytes()) == (latents(fresh), fresh.film.read_bytes())


def test_nothing_is_replayed_in_front_of_a_segment_that_goes_back(make_bundle, films, tmp_path):
    films.render(make_bundle(), tmp_path, TEXT)
    events, _ = films.render(make_bundle(), tmp_path, TEXT.replace("it rests", "it sits"))
    decoder_only = [event for event in events if isinstance(event, Replayed)]
    assert len(decoder_only) <= 1  # the decoder looks back one chunk; the memory is read


def test_what_is_gone_back_to_stays_where_no_other_state_may(
    make_bundle, films, tmp_path, whole, monkeypatch
):
    monkeypatch.setattr("gf_core.engine.shoot.pays", lambda *_: True)
    _, run = films.render(make_bundle(), tmp_path, TEXT, state_budget=1)
    names = StateStore(tmp_path / "states", ()).names()
    film = Film(make_bundle(), TEXT, make_bundle().recipe)
    assert names == {recalled_module.recalled_name(film, n) for n in film.plan.recalled} and len(names) == 2
    assert latents(run) == whole[0]


def test_a_memory_that_cannot_be_kept_ends_the_film_in_words(make_bundle, films, tmp_path, monkeypatch):
    monkeypatch.setattr(StateStore, "save", lambda *_, **__: None)
    with pytest.raises(TakeError, match="segment 1, to which a later one goes back") as told:
        films.render(make_bundle(), tmp_path, TEXT)
    assert "goes on" in told.value.fix


def test_a_memory_that_is_taken_away_meanwhile_is_made_anew_by_the_next_render(
    make_bundle, films, tmp_path, whole, monkeypatch
):
    load = StateStore.load
    monkeypatch.setattr(StateStore, "load", lambda self, name: None)
    with pytest.raises(TakeError, match="segment 4 goes back to segment 2") as told:
        films.render(make_bundle(), tmp_path, TEXT)
    assert "anew" in told.value.fix
    monkeypatch.setattr(StateStore, "load", load)
    for path in (tmp_path / "states").iterdir():
        path.unlink()
    _, run = films.render(make_bundle(), tmp_path, TEXT)
    assert latents(run) == whole[0]


def test_a_memory_without_anchors_says_that_it_brings_nobody_back(make_bundle):
    bundle = make_bundle()
    memory = MemorySpec(anchors=0, recent=3, anchor_policy="none")
    film = Film(bundle, "a fox\ncut: a hen\nback to 1: it", replace(bundle.recipe, memory=memory))
    with pytest.raises(StoryboardError, match="this memory keeps no frames of it") as told:
        film.check()
    assert told.value.line == 3 and "motion" in told.value.fix
    film.retold("a fox\ncut: a hen\nback to 1: it | motion").check()


def test_the_estimate_counts_what_must_be_kept(make_bundle, tmp_path):
    bundle = make_bundle()
    told = [
        preflight(look(Film(bundle, text, bundle.recipe), tmp_path))
        for text in (
            TEXT,
            TEXT.replace("back to 2:", "cut:").replace("back to 1:", "cut:").replace(" | motion", ""),
        )
    ]
    costs = [budget.disk for budget in told]
    assert told[0].parts["recalled"] > 0 and "recalled" not in told[1].parts
    assert costs[0].recalled > 0 == costs[1].recalled
    assert costs[0].needed - costs[1].needed == costs[0].recalled
    assert "recalled" in costs[0].line() and "recalled" not in costs[1].line()


def test_the_settings_say_where_a_segment_goes_back_to(make_bundle):
    bundle = make_bundle()
    text = TEXT.replace("cut: a hen | 1.5s", "cut: a hen | 1.5s | mute")
    told = Film(bundle, text, bundle.recipe).settings["segments"]
    assert [(one["verb"], one.get("back"), one.get("motion")) for one in told[2:]] == [
        ("back", 2, False), ("then", None, None), ("back", 1, True)
    ]  # fmt: skip


def test_the_contact_sheet_says_which_one(make_bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("GROUNDED_CACHE", str(tmp_path / "cache"))  # no row is kept there
    rows, real = [], sheet_module.Page.row
    monkeypatch.setattr(sheet_module.Page, "row", lambda page, row: rows.append(row) or real(page, row))
    render_film(make_bundle(), "a fox | 0.75s\nback to 1: a hen | 0.75s", tmp_path / "a.mp4")
    assert sorted(row.verb for row in rows) == ["back to 1", "start"]


def test_the_network_is_called_for_what_is_new_only(make_bundle, films, tmp_path, monkeypatch):
    films.render(make_bundle(), tmp_path, TEXT)
    calls = []
    predict = Director.predict
    monkeypatch.setattr(Director, "predict", lambda self, *a: calls.append(1) or predict(self, *a))
    films.render(make_bundle(), tmp_path, TEXT.replace(" | motion", ""))
    assert len(calls) == 2  # one chunk of two steps


def test_chunks_behind_a_memory_that_is_kept_count_for_the_next_state(
    make_bundle, films, tmp_path, monkeypatch
):
    """It is on the disk anyway; a state that saves only the replay of what follows is weighed as that."""
    weighed = []
    monkeypatch.setattr("gf_core.engine.shoot.pays", lambda size, chunks, seconds: weighed.append(chunks))
    films.render(make_bundle(), tmp_path, TEXT)
    # Segments 1 and 2 are gone back to; of the others none is kept, so the chunks since then add up.
    assert weighed == [2, 4, 5, 6]
