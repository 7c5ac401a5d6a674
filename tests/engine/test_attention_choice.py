"""Which kernel computes attention: measured once per card and shape, kept with a film, and a wish goes before."""

import json
import logging
import os
import sys
from dataclasses import replace
from types import ModuleType
from typing import Literal

import pytest
import torch

from gf_core.attention import backends, fastest, sdpa
from gf_core.attention.backends import BACKENDS, Backend, loaded, pick
from gf_core.engine.film import Film
from gf_core.errors import GroundedError
from gf_core.files.cache import cache_dir
from gf_core.take.begun import as_begun
from gf_core.take.folder import Take
from gf_core.take.run import Run

pytestmark = pytest.mark.usefixtures("own_cache")

CPU = torch.device("cpu")
CALL = fastest.Call(CPU, torch.float32, 2, 8, 6, 12)
TEXT = "a fox runs | 1.5s"


def slow(q, k, v, *, where=None):
    return sdpa(q, k, v)


def broken(q, k, v, *, where=None):
    raise RuntimeError("no kernel for this card")


def rounded(q, k, v, *, where=None):
    return sdpa(*((x * 8).round() / 8 for x in (q, k, v)))


def row(name, kernel, when: Literal["can", "faster", "asked"] = "can"):
    return Backend(name, lambda *_: True, lambda: kernel, when)


ROWS = (row("other", slow, "faster"), row("bytes", rounded, "asked"), row("broken", broken), BACKENDS[-1])


@pytest.fixture
def picked(monkeypatch):
    """Picks for a film's call, as a watch says how long each of `ROWS` takes."""

    def pick_by(watch, call=CALL, rows=ROWS, **wishes):
        monkeypatch.setattr(backends, "BACKENDS", rows)
        monkeypatch.setattr(fastest, "_seconds", watch)
        return pick(CPU, torch.float32, 8, call=call, **wishes).name

    return pick_by


class Watch:
    """Says how long a kernel takes, and counts how often it is asked."""

    def __init__(self, other):
        self.times, self.asked = {slow: other, sdpa: 1.0}, 0

    def __call__(self, kernel, q, k, v):
        self.asked += 1
        assert q.shape == (1, 6, 2, 8) and k.shape == v.shape == (1, 12, 2, 8)
        kernel(q, k, v)
        return self.times[kernel]


@pytest.mark.parametrize(("other", "name"), [(0.5, "other"), (0.99, "sdpa"), (2.0, "sdpa")])
def test_the_fastest_is_taken_and_measured_once(picked, other, name, caplog):
    caplog.set_level(logging.INFO, "grounded")
    watch = Watch(other)
    assert picked(watch) == name
    asked = watch.asked
    assert asked and picked(watch) == picked(watch) == name and watch.asked == asked
    told = [line for line in caplog.messages if line.startswith("attention was measured")]
    assert len(told) == 1 and told[0].endswith(f"{name} is used")
    assert any("broken does not run here: no kernel" in line for line in caplog.messages)


def test_first_calls_which_make_a_kernel_ready_are_not_counted(picked):
    """Half of the counted ones are quicker than PyTorch's own; of all with the first two, most are not."""
    times = iter([90, 90, *[0.5] * 3, *[1.5] * 2])
    assert (
        picked(lambda kernel, *given: next(times) if kernel is slow else Watch(0)(kernel, *given)) == "other"
    )


def test_nothing_is_remembered_where_pytorchs_own_kernel_was_not_measured(monkeypatch):
    """Too little memory, say, in which another kernel ran: the next film may have more."""
    slower, own = Watch(2.0), [True]

    def clock(kernel, q, k, v):
        if kernel is sdpa and own:
            raise RuntimeError("out of memory")
        return slower(kernel, q, k, v)

    kernels = {"other": slow, "sdpa": sdpa}
    monkeypatch.setattr(fastest, "_seconds", clock)
    assert fastest.fastest(CALL, kernels) == "other"
    own.clear()
    assert fastest.fastest(CALL, kernels) == "sdpa"


@pytest.mark.parametrize("damage", ["{", "[]", '{"a": 1}', "[" * 100_000])
def test_a_damaged_memory_is_measured_again(picked, damage, caplog):
    file = cache_dir("measured") / "attention.json"
    picked(Watch(0.5))
    file.write_text(damage)
    watch = Watch(0.5)
    assert picked(watch) == "other" and watch.asked
    assert len([line for line in caplog.messages if "measured again" in line]) == 1


def test_what_is_remembered_is_bounded(picked, monkeypatch):
    monkeypatch.setattr(fastest, "KEPT", 3)
    for queries in range(1, 6):
        picked(lambda *_: 1.0, fastest.Call(CPU, torch.float32, 2, 8, queries, 12))
    assert (cache_dir("measured") / "attention.json").read_text().count("x12") == 3


def test_a_wish_and_a_host_go_before_what_is_measured(picked, monkeypatch):
    def ours(q, k, v, *, where=None):
        return q

    watch = Watch(0.5)
    assert picked(watch, wanted="sdpa") == "sdpa" and picked(watch, wanted="bytes") == "bytes"
    assert picked(watch, host=ours) == picked(watch, host=ours, wanted="sdpa") == "ours"
    assert not watch.asked
    with pytest.raises(GroundedError, match="attention by none is not known") as refused:
        picked(watch, wanted="none")
    assert "other, bytes, broken, sdpa" in refused.value.fix
    monkeypatch.setattr(backends, "BACKENDS", BACKENDS)
    with pytest.raises(GroundedError, match="attention by sage does not run on cpu in") as refused:
        pick(CPU, torch.float32, 64, wanted="sage")
    assert refused.value.fix == "use one that runs here: sdpa"


def test_what_rounds_says_how_much(monkeypatch, caplog):
    caplog.set_level(logging.INFO, "grounded")
    monkeypatch.setattr(backends, "BACKENDS", ROWS)
    assert loaded(pick(CPU, torch.float32, 8, wanted="bytes", call=CALL), CALL) is rounded
    assert 0.001 < fastest.deviation(CALL, rounded) < 0.2
    assert f"off by {fastest.deviation(CALL, rounded):.2g} of" in caplog.text


def test_a_package_that_does_not_load_is_left_out(picked, caplog):
    caplog.set_level(logging.INFO, "grounded")

    def lacks_another():
        raise ImportError("libcute.so: cannot open\nshared object file")

    half = Backend("half", lambda *_: True, lacks_another, "faster")
    assert picked(Watch(0.5), rows=(half, *ROWS)) == "other"
    assert "attention by half does not load: ImportError: libcute.so: cannot open" in caplog.messages


@pytest.mark.parametrize("chosen", [None, "elsewhere"])
def test_flash_attention_4_keeps_what_it_compiled(monkeypatch, tmp_path, chosen):
    """Nor is it taken where it was not measured, as in a training, whose backward it never ran."""
    names = [f"FLASH_ATTENTION_CUTE_DSL_CACHE_{name}" for name in ("ENABLED", "DIR")]
    for name in names:  # set first, so that what the row sets is taken back
        monkeypatch.setenv(name, chosen or "")
        if chosen is None:
            monkeypatch.delenv(name)
    seen = []

    def flash_attn_func(q, k, v):
        seen.append([os.environ[name] for name in names])
        return sdpa(q, k, v), None

    monkeypatch.setitem(sys.modules, "flash_attn", ModuleType("flash_attn"))
    package = ModuleType("flash_attn.cute")
    monkeypatch.setattr(package, "flash_attn_func", flash_attn_func, raising=False)
    monkeypatch.setitem(sys.modules, "flash_attn.cute", package)
    row = next(row for row in BACKENDS if row.name == "flash-attn-4")
    q, k, v = CALL.inputs()
    assert torch.equal(row.load()(q, k, v), sdpa(q, k, v))
    ours = ["1", str(cache_dir("flash-attn-4"))]
    assert seen == [[chosen, chosen] if chosen else ours] and str(tmp_path) in ours[1]
    rows = (Backend(row.name, lambda *_: True, row.load, row.when), BACKENDS[-1])
    monkeypatch.setattr(backends, "BACKENDS", rows)
    assert pick(CPU, torch.float32, 8).name == "sdpa"


def settings(folder):
    return next(iter(folder.glob("run-*/settings.json"))).read_text()


@pytest.mark.parametrize("begun", ["sdpa", "other"])
def test_a_film_goes_on_with_the_kernel_it_was_begun_with(bundle, films, tmp_path, monkeypatch, begun):
    """Also one that was made before anything was measured, whose facts name no kernel."""
    folder = tmp_path / "take"
    if begun == "other":
        monkeypatch.setattr(backends, "BACKENDS", (ROWS[0], ROWS[-1]))
        monkeypatch.setattr(backends, "fastest", lambda *_: "other")
    with Take.open(folder) as take:
        films.session(bundle, TEXT, take, until=1).play(lambda event: None)
    assert ('"attention": "other"' in settings(folder)) == (begun == "other")
    monkeypatch.setattr(backends, "BACKENDS", (ROWS[0], ROWS[-1]))
    monkeypatch.setattr(backends, "fastest", lambda *_: "sdpa" if begun == "other" else "other")
    with Take.open(folder) as take:
        session = films.session(bundle, TEXT, take)
        assert session._found.reuse.finished and session.film.bundle.attention == begun
        longer = films.session(bundle, TEXT + "\nthen: it rests | 0.75s", take)
        assert len(longer._found.reuse.chunks) == 2
    with Take.open(tmp_path / "another") as take:  # a new film is computed by what is fastest now
        film = films.session(bundle, TEXT, take).film
    now = "sdpa" if begun == "other" else "other"
    assert film.bundle.attention == now and film.facts["kernels"].get("attention", "sdpa") == now
    said = next(iter(folder.glob("run-*/settings.json")))  # nor does one of another library lend its own
    other = json.loads(said.read_text())
    other["facts"]["kernels"]["torch"] = "another"
    said.write_text(json.dumps(other))
    with Take.open(folder) as take:
        assert films.session(bundle, TEXT, take).film.bundle.attention == now


def test_a_kernel_that_does_not_run_here_any_more_is_not_gone_on_with(bundle, tmp_path, monkeypatch):
    rows = (ROWS[0], row("third", slow, "faster"), ROWS[-1])
    monkeypatch.setattr(backends, "BACKENDS", rows)
    monkeypatch.setattr(backends, "fastest", lambda *_: "other")
    begun = Film(bundle, TEXT, bundle.recipe)
    (tmp_path / "run-0001").mkdir()
    Run(tmp_path / "run-0001").note(TEXT, begun.settings)
    monkeypatch.setattr(backends, "fastest", lambda *_: "third")
    now = Film(bundle, TEXT, bundle.recipe).facts
    assert as_begun(bundle, now, tmp_path).attention == "other"
    monkeypatch.setattr(backends, "BACKENDS", (replace(rows[0], can=lambda *_: False), *rows[1:]))
    assert as_begun(bundle, now, tmp_path).attention == "third"


def test_another_version_of_a_kernel_makes_the_chunks_anew(bundle, films, tmp_path, monkeypatch):
    versions = {"some-package": "1.0"}
    monkeypatch.setattr(backends, "version", versions.__getitem__)
    monkeypatch.setattr(backends, "BACKENDS", (replace(ROWS[0], package="some-package"), ROWS[-1]))
    monkeypatch.setattr(backends, "fastest", lambda *_: "other")
    with Take.open(tmp_path / "take") as take:
        films.session(bundle, TEXT, take).play(lambda event: None)
        assert '"attention": "other 1.0"' in settings(tmp_path / "take")
        assert films.session(bundle, TEXT, take)._found.reuse.finished
        versions["some-package"] = "2.0"
        monkeypatch.setattr(backends, "fastest", lambda *_: "sdpa")
        session = films.session(bundle, TEXT, take)
        assert session.film.bundle.attention == "other" and not session._found.reuse.chunks
        versions["some-package"] = "1.0"
        assert films.session(bundle, TEXT, take)._found.reuse.finished
