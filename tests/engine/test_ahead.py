"""A card is asked for a chunk's first step before the chunk in front of it is waited for, and for no more."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from dataclasses import replace

import pytest

from gf_core.engine import shoot, worker
from gf_core.engine.events import ChunkDone, StepDone
from gf_core.engine.film import Film, look
from gf_core.engine.meter import Meter
from gf_core.engine.session import Session
from gf_core.memory.presets import PRESETS
from gf_core.sampling.director import Director
from gf_core.sampling.rolling import Rolling
from gf_core.take.folder import RunWriter, Take
from gf_core.video import FilmWriter

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


def play(bundle, folder, seen, stop=lambda event: False, text=BOARD):
    """The report."""

    def listen(event):
        if isinstance(event, StepDone):
            seen.append(("step", event.step))
        if stop(event):
            session.cancel()

    with Take.open(folder) as take:
        session = Session(take, look(Film(bundle, text, bundle.recipe), folder))
        return session.play(listen).report


def test_one_step_is_asked_for_before_the_chunk_before_it_is_waited_for(bundle, tmp_path, seen, monkeypatch):
    monkeypatch.setattr(shoot, "pays", lambda *given: False)  # a state's copies wait for the card
    monkeypatch.setattr(worker, "DEPTH", 100)  # and so does who finds no room
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


class SlowCard:
    """A card that has computed nothing until somebody waits for it; counted in calls, as its time would be."""

    def __init__(self):
        self.asked = self.there = 0
        self.stages, self.waits = [], Counter()
        """Which stages the sampler's thread is in, the innermost last; for how many calls it waited in each."""

    @property
    def done(self):
        return self.there == self.asked

    def wait(self, calls):
        if calls > self.there:
            self.waits[self.stages[-1]] += calls - self.there
            self.there = calls


@pytest.fixture
def card(monkeypatch):
    """Whoever reads what it makes in the sampler's thread waits for it; the worker has a stream of its own."""
    card, main, stage = SlowCard(), threading.current_thread(), Meter.stage

    def here(work):
        if threading.current_thread() is main:
            work()

    @contextlib.contextmanager
    def staged(meter, name):
        with stage(meter, name):
            here(lambda: card.stages.append(name))
            try:
                yield
            finally:
                here(card.stages.pop)

    def slow(call):
        def asked(*given, **named):
            made = call(*given, **named)  # may be stopped before it is asked
            card.asked += 1
            return made

        return asked

    def waiting(read):
        def reading(*given, **named):
            here(lambda: card.wait(card.asked))
            return read(*given, **named)

        return reading

    def computed(latents):
        upto = card.asked
        return lambda: here(lambda: card.wait(upto))

    monkeypatch.setattr(Meter, "stage", staged)
    monkeypatch.setattr(shoot, "computed", computed)
    for name in ("predict", "_clean"):
        monkeypatch.setattr(Director, name, slow(getattr(Director, name)))
    for home, name in ((Director, "snapshot"), (Rolling, "under_way"), (RunWriter, "save_latents")):
        monkeypatch.setattr(home, name, waiting(getattr(home, name)))
    return card


def test_a_state_is_weighed_against_what_the_card_took(bundle, tmp_path, card, monkeypatch):
    """Behind a film's first chunk as well, of which nothing but the asking is known before it is there."""
    told = []
    monkeypatch.setattr(shoot, "pays", lambda *given: told.append(card.done) or True)
    play(bundle, tmp_path, [], text="a fox | 0.75s\nthen: it jumps | 0.75s")
    # Of the second what the first took, and then what both did.
    assert told == [True, False, True]
    assert {*card.waits} == {"sampling"}


@pytest.mark.parametrize("rolling", [False, True])
@pytest.mark.parametrize("stop_at", [None, 1])
def test_what_the_card_took_counts_as_sampling(bundle, tmp_path, card, rolling, stop_at):
    if rolling:
        memory = replace(PRESETS["rolling_forcing"], chunk=bundle.recipe.memory.chunk)
        bundle = replace(bundle, recipe=replace(bundle.recipe, memory=memory))

    def listen(event):
        if isinstance(event, ChunkDone) and event.index == stop_at:
            stop.set()
        return stop.is_set()

    stop = threading.Event()
    play(bundle, tmp_path, [], listen)
    assert card.waits and {*card.waits} == {"sampling"}
    assert card.done or stop_at is not None, "of a call that is stopped nobody waits for the end"


def test_a_chunk_that_is_mended_counts_as_sampling(bundle, tmp_path, card):
    play(bundle, tmp_path, [])
    (tmp_path / "run-0001" / "latents" / "000001.safetensors").unlink()
    card.waits.clear()
    report = play(bundle, tmp_path, [], text=BOARD + "\nthen: it sits | 0.75s")
    chunks, calls = 2, len(bundle.recipe.sample.steps) + 1
    assert report["reuse"]["mended"] == 1 and card.waits["sampling"] >= chunks * calls


def test_what_the_card_took_while_there_was_no_room_counts_as_sampling(bundle, tmp_path, card, monkeypatch):
    """Encoding is slower: the sampler waits for it, while the card computes what is to be handed over."""
    write, offer, again = FilmWriter.write, worker.Worker.offer, []

    def slow(*given):
        time.sleep(0.1)
        return write(*given)

    def offered(self, item, pause=0.0):
        if pause:  # there was no room
            again.append(card.done)
        return offer(self, item, pause)

    monkeypatch.setattr(shoot, "pays", lambda *given: False)
    monkeypatch.setattr(FilmWriter, "write", slow)
    monkeypatch.setattr(worker.Worker, "offer", offered)
    play(bundle, tmp_path, [], text=BOARD + "\nthen: it sits | 3s")
    assert again and all(again) and {*card.waits} == {"sampling"}
