"""A card is asked for a chunk's first step before the chunk in front of it is waited for, and for no more."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from gf_core.engine import shoot
from gf_core.engine.events import StepDone
from gf_core.engine.film import Film, look
from gf_core.engine.session import Session
from gf_core.memory.presets import PRESETS
from gf_core.sampling.director import Director
from gf_core.take.folder import RunWriter, Take

BOARD = "a fox | 1.5s\nthen: it jumps | 1.5s\ncut: a hen | 1.5s"


@pytest.fixture
def seen(monkeypatch):
    """(what, chunk or step) in the order in which it happened; `there` in the sampler's thread is `waited`."""
    order, asked, main = [], [], threading.current_thread()

    def computed(latents):
        number = len(asked)
        asked.append(number)
        order.append(("asked", number))
        return lambda: order.append(("waited" if threading.current_thread() is main else "there", number))

    monkeypatch.setattr(shoot, "computed", computed)
    predict, save = Director.predict, RunWriter.save_latents

    def predicted(*given):
        flow = predict(*given)  # may be stopped before the call
        order.append(("call", None))
        return flow

    def saved(run, index, latents):
        order.append(("saved", index))
        return save(run, index, latents)

    monkeypatch.setattr(Director, "predict", predicted)
    monkeypatch.setattr(RunWriter, "save_latents", saved)
    return order


def play(bundle, folder, seen, stop=lambda event: False):
    def listen(event):
        if isinstance(event, StepDone):
            seen.append(("step", event.step))
        if stop(event):
            session.cancel()

    with Take.open(folder) as take:
        session = Session(take, look(Film(bundle, BOARD, bundle.recipe), folder))
        session.play(listen)


def test_one_step_is_asked_for_before_the_chunk_before_it_is_waited_for(bundle, tmp_path, seen):
    play(bundle, tmp_path, seen)
    mine = [what for what in seen if what[0] in ("asked", "waited", "call", "step")]
    chunks = max(number for what, number in seen if what == "asked")
    assert chunks >= 5
    for number in range(chunks):
        at = mine.index(("asked", number))
        assert mine[at + 1 : at + 4] == [("call", None), ("waited", number), ("step", 1)]
    assert mine[-2:] == [("asked", chunks), ("waited", chunks)], "what sampling took is known at its end"
    assert all(seen.index(("there", n)) < seen.index(("saved", n)) for n in range(chunks + 1))


def test_chunks_on_the_way_together_are_waited_for_too(bundle, tmp_path, seen):
    recipe = replace(
        bundle.recipe, memory=replace(PRESETS["rolling_forcing"], chunk=bundle.recipe.memory.chunk)
    )
    play(replace(bundle, recipe=recipe), tmp_path, seen)
    asked, waited = ([n for what, n in seen if what == kind] for kind in ("asked", "waited"))
    assert asked == waited and len(asked) > 5
    behind = [seen.index(("waited", n)) for n in asked[:-1]]
    assert all(at < seen.index(("asked", n + 1)) for n, at in zip(asked, behind)), "a chunk ahead at most"


def test_a_stop_is_heard_before_the_second_step(bundle, tmp_path, seen):
    """What is told of a step is told behind the chunk before, which is kept; the other steps were not asked for."""
    play(bundle, tmp_path, seen, lambda event: isinstance(event, StepDone) and event.index == 2)
    assert seen.count(("call", None)) == 5
    assert [n for what, n in seen if what == "asked"] == [0, 1]
    assert [n for what, n in seen if what == "saved"] == [0, 1]
