"""On how many threads a film is computed on a processor: few for small products, and as its Take was begun."""

import threading
import time
from dataclasses import replace

import pytest
import torch

from gf_core import config
from gf_core.config import VideoSpec
from gf_core.devices import on_threads, threads
from gf_core.engine.events import Finished, Pulse, Started
from gf_core.engine.film import Film
from gf_core.engine.recorded import read_recorded
from gf_core.engine.render import render_film
from gf_core.take.begun import as_begun, with_choices
from gf_core.take.folder import Take
from gf_core.take.run import Run

TEXT = "a fox runs | 1.5s\n"
WAITS = "waiting for another film that this program computes on the processor"


@pytest.fixture(autouse=True)
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def used(monkeypatch):
    """On how many threads the network was called."""
    found, whole = set(), torch.nn.functional.linear

    def linear(*given):
        found.add(torch.get_num_threads())
        return whole(*given)

    monkeypatch.setattr(torch.nn.functional, "linear", linear)
    return found


def sized(bundle, width, height):
    return replace(bundle.recipe, video=VideoSpec(width, height))


def test_small_products_stay_on_one_thread(bundle):
    small, large = sized(bundle, 32, 32), sized(bundle, 8192, 8192)
    assert bundle.threads_for(small) == 1 and bundle.threads_for(large) == 3
    assert replace(bundle, threads=2).threads_for(small) == 2, "asked for, or begun so"
    assert replace(bundle, team=object()).threads_for(small) == 1, "films of ranks are those of one process"


def test_the_limit_is_of_a_product_of_a_chunk(bundle, monkeypatch):
    recipe, spec = sized(bundle, 64, 32), bundle.spec
    tokens = recipe.memory.chunk * (64 // 16) * (32 // 16)
    for limit, count in ((tokens * spec.dim**2, 3), (tokens * spec.dim**2 + 1, 1)):
        monkeypatch.setattr(config, "SMALL", limit)
        assert bundle.threads_for(recipe) == count


def test_a_film_is_computed_on_its_threads_and_leaves_those_of_the_process(bundle, films, tmp_path, used):
    films.render(bundle, tmp_path / "take", TEXT)
    assert used == {1} and torch.get_num_threads() == 3


def stop(event):
    raise KeyError(event)


def test_they_are_given_back_after_an_error(bundle, films, tmp_path):
    with Take.open(tmp_path / "take") as take, pytest.raises(KeyError):
        films.session(bundle, TEXT, take).play(stop)
    assert torch.get_num_threads() == 3


def test_a_thread_that_begins_inside_has_as_many():
    seen = []
    with on_threads(2):
        thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        thread.start()
        thread.join()
    assert seen == [2] and torch.get_num_threads() == 3


def test_two_films_at_once_are_computed_one_after_the_other(bundle, films, tmp_path):
    """The number of threads is the process's: the second would change what the first is computed on."""
    order, inside, go_on = [], threading.Event(), threading.Event()

    def first(event):
        order.append(("first", torch.get_num_threads()))
        inside.set()
        assert go_on.wait(30)

    def second(event):
        if not isinstance(event, Pulse):  # as it waits, too
            order.append(("second", torch.get_num_threads()))

    def render(name, threads, listen):
        with Take.open(tmp_path / name) as take:
            films.session(replace(bundle, threads=threads), TEXT, take).play(listen)

    pair = [threading.Thread(target=render, args=given) for given in (("a", 1, first), ("b", 2, second))]
    pair[0].start()
    assert inside.wait(30)
    pair[1].start()
    time.sleep(0.2)  # time to do what it must not
    go_on.set()
    for thread in pair:
        thread.join(60)
    assert [name for name, _ in order] == sorted(name for name, _ in order)
    assert set(order) == {("first", 1), ("second", 2)} and torch.get_num_threads() == 3


@pytest.fixture
def beside_a_film():
    """Another thread of Python holds the number of threads; what is yielded lets it go."""
    inside, go_on = threading.Event(), threading.Event()

    def hold():
        with on_threads(1):
            inside.set()
            go_on.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(30)
    yield go_on
    go_on.set()
    thread.join(30)


def test_a_film_that_waits_for_another_is_cancelled(bundle, films, tmp_path, beside_a_film, used, caplog):
    """After it was asked three times; nothing is computed, and what lay in the Take stays."""
    caplog.set_level("INFO", "grounded")
    heard = []

    def listen(event):
        heard.append(event)
        if heard == [Pulse()] * 3:
            session.cancel()

    with Take.open(tmp_path / "take") as take:
        session = films.session(replace(bundle, threads=2), TEXT, take)
        session.play(listen)
        assert heard[:3] == [Pulse()] * 3 and isinstance(heard[3], Started)
        assert isinstance(heard[-1], Finished) and heard[-1].cancelled and heard[-1].frames == 0
        assert not used and not beside_a_film.is_set()
        assert [record.message for record in caplog.records].count(WAITS) == 1
        beside_a_film.set()
        heard.clear()
        films.session(replace(bundle, threads=2), TEXT, take).play(heard.append)
        assert not heard[-1].cancelled and heard[-1].frames > 0 and used == {2}


def test_a_film_that_waits_is_broken_off_by_its_listener(bundle, films, tmp_path, beside_a_film):
    with Take.open(tmp_path / "take") as take, pytest.raises(KeyError, match="Pulse"):
        films.session(bundle, TEXT, take).play(stop)
    assert not list(tmp_path.glob("take/run-*")) and not beside_a_film.is_set()


def test_a_film_that_waited_is_made_in_its_turn(bundle, films, tmp_path, beside_a_film, used):
    """The wait is no part of the time that making it took."""
    heard = []

    def listen(event):
        heard.append(event)
        if heard == [Pulse()] * 8:
            beside_a_film.set()

    with Take.open(tmp_path / "take") as take:
        began = time.perf_counter()
        films.session(replace(bundle, threads=2), TEXT, take).play(listen)
        took = time.perf_counter() - began
    assert used == {2} and not heard[-1].cancelled
    assert heard[-1].report["seconds"]["total"] < took - 0.7


def test_a_thread_that_begins_beside_a_film_has_those_of_the_process():
    """Torch gives a new thread of Python what is set at that moment, which here is another film's."""
    seen, inside, seen_inside = [], threading.Event(), threading.Event()

    def beside():
        inside.wait(30)
        seen.append((threads(), torch.get_num_threads()))
        seen_inside.set()
        with on_threads(2):
            seen.append((threads(), torch.get_num_threads()))
        seen.append((threads(), torch.get_num_threads()))

    thread = threading.Thread(target=beside)
    thread.start()
    with on_threads(1):
        inside.set()
        assert seen_inside.wait(30) and threads() == 1
    thread.join()
    assert seen == [(3, 1), (2, 2), (3, 3)] and threads() == torch.get_num_threads() == 3


def test_a_film_goes_on_with_the_threads_it_was_begun_on(bundle, films, tmp_path, used, caplog):
    caplog.set_level("INFO", "grounded")
    with Take.open(tmp_path / "take") as take:
        films.session(replace(bundle, threads=2), TEXT, take).play(lambda event: None)
        caplog.clear()
        session = films.session(bundle, TEXT + "then: it rests | 1.5s\n", take)
        assert session.film.threads == 2 and len(session._found.reuse.chunks) > 0
        assert "threads: 2, with which this film was begun" in caplog.text
        used.clear()
        session.play(lambda event: None)
        assert used == {2}
    with Take.open(tmp_path / "another") as take:
        assert films.session(bundle, TEXT, take).film.threads == 1


@pytest.mark.parametrize("threads", [4, 0, -1, True, 1.0, "2", None])
def test_more_threads_than_there_are_here_are_not_gone_on_with(bundle, tmp_path, threads):
    film = Film(bundle, TEXT, bundle.recipe)
    machine = {**film.facts["kernels"], "threads": threads}
    assert with_choices(bundle, machine).threads == 0
    (tmp_path / "run-0001").mkdir()
    settings = {**film.settings, "facts": {**film.facts, "kernels": machine}}
    Run(tmp_path / "run-0001").note(TEXT, settings)
    assert as_begun(bundle, film.facts, tmp_path).threads == 1


def test_of_several_runs_the_newest_decides(bundle, tmp_path):
    film = Film(bundle, TEXT, bundle.recipe)
    for number, count in enumerate((3, 1, 2), 1):
        run = Run(tmp_path / f"run-{number:04d}")
        run.folder.mkdir()
        kernels = {**film.facts["kernels"], "threads": count}
        run.note(TEXT, {**film.settings, "facts": {**film.facts, "kernels": kernels}})
    assert as_begun(bundle, film.facts, tmp_path).threads == 2


def test_a_finished_film_is_rendered_again_on_its_threads(bundle, tmp_path):
    made = render_film(replace(bundle, threads=2), TEXT, tmp_path / "film.mp4", sheet=False)
    machine = read_recorded(made.path).machine
    assert machine["threads"] == 2 and with_choices(bundle, machine).threads == 2
