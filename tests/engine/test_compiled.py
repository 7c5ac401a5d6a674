"""A compiled network's film is another one, with keys of its own; which of the two a Take holds does not change."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch._dynamo.exc import BackendCompilerFailed

from gf_core.checkpoints.model_bundle import ModelBundle
from gf_core.config import Encoding
from gf_core.engine import compiling, making
from gf_core.engine.compiling import settle_pieces
from gf_core.engine.events import ChunkDone, Reused
from gf_core.engine.film import Film, look
from gf_core.engine.session import Session
from gf_core.engine.shoot import Shoot
from gf_core.errors import GroundedError
from gf_core.estimate import trial
from gf_core.model import compiled
from gf_core.model.pieces import Fused
from gf_core.sampling.director import Director
from gf_core.take.folder import Run, Take
from gf_core.vae import wan_pieces
from gf_core.vae.tiles import Tiled, whole
from gf_core.vae.wan import WanDecoder

from ..vae.kinds import Counted, wan
from .conftest import stopping

MADE_BY = compiled._compiler
COMPILER = (lambda function: function, "as written")
SHORT, LONG = "a fox runs | 1.5s", "a fox runs | 1.5s\nthen: it jumps | 1.5s"


@pytest.fixture(autouse=True)
def pieces(monkeypatch):
    """Fused, and told apart from single operations by their bits, with nothing compiled."""
    fused = Fused(lambda function: function, "as written")
    plain = fused.modulated
    monkeypatch.setattr(fused, "modulated", lambda *given: plain(*given) * (1 + 2**-20))
    monkeypatch.setattr(compiled, "_fused", lambda backend: fused)
    monkeypatch.setattr(compiled, "_compiler", lambda backend: COMPILER)
    works = compiled.works
    works.cache_clear()
    yield fused
    works.cache_clear()


def play(bundle, text, folder, stop_at=None):
    events = []
    film = settle_pieces(Film(bundle, text, bundle.recipe), folder)
    with Take.open(folder) as take, contextlib.suppress(KeyboardInterrupt):
        Session(take, look(film, folder)).play(stopping(stop_at, ChunkDone, events))
    return film, events


def latents(folder):
    run = Run(folder / "run-0001")
    return [(record["key"], run.latents(record["index"]).read_bytes()) for record in run.committed()]


def test_resumed_it_has_the_bytes_of_one_made_in_one_go(bundle, tmp_path):
    on = replace(bundle, compiled=True)
    film, _ = play(on, LONG, tmp_path / "whole")
    play(on, LONG, tmp_path / "torn", stop_at=1)
    _, events = play(on, LONG, tmp_path / "torn")
    assert next(event.chunks for event in events if isinstance(event, Reused)) >= 1
    assert latents(tmp_path / "torn") == latents(tmp_path / "whole")
    eager, _ = play(bundle, LONG, tmp_path / "eager")
    assert "compiled" not in eager.facts["kernels"] and film.facts["kernels"]["compiled"] == "as written"
    pairs = list(zip(latents(tmp_path / "whole"), latents(tmp_path / "eager"), strict=True))
    assert all(one[0] != other[0] and one[1] != other[1] for one, other in pairs)


@pytest.mark.parametrize("tile", [None, 16])
def test_the_wan_decoder_is_compiled_with_the_network_for_this_film_alone(
    bundle, tmp_path, monkeypatch, tile
):
    """Where its weights are on a card; settled again it is the same one."""
    plain = Tiled(wan(), tile) if tile else wan()
    on, off = (replace(bundle, codec=plain, compiled=kind) for kind in (True, False))

    def settled(bundle):
        return settle_pieces(Film(bundle, SHORT, bundle.recipe), tmp_path)

    assert settled(on).bundle.codec is plain, "on a processor"
    monkeypatch.setattr(compiling, "_pays", lambda device: True)
    film = settled(on)
    assert film.bundle.codec.arithmetic == "as written" and film.bundle.codec.fingerprint == plain.fingerprint
    assert type(film.bundle.codec) is type(plain) and whole(film.bundle.codec).network is whole(plain).network
    assert settle_pieces(film, tmp_path).bundle.codec is film.bundle.codec
    assert settled(off).bundle.codec is plain is on.codec and plain.arithmetic == ""
    assert film.settings["pictures_key"] != settled(off).settings["pictures_key"]
    assert settled(replace(on, codec=bundle.codec)).bundle.codec is bundle.codec
    monkeypatch.setattr(compiled, "works", lambda device, dtype: False)
    assert settled(on).bundle.codec is plain


def test_a_film_of_compiled_pictures_goes_on_with_the_same_ones(bundle, tmp_path, monkeypatch):
    """Its decoder is ready before the first chunk is sampled."""
    monkeypatch.setattr(compiling, "_pays", lambda device: True)
    order, get_ready, sampled = [], WanDecoder.get_ready, Shoot._sampled_chunks

    def ready(decoder, *size):
        time.sleep(0.3)  # as a compiler takes its time
        get_ready(decoder, *size)
        order.append("ready")

    monkeypatch.setattr(WanDecoder, "get_ready", ready)
    monkeypatch.setattr(Shoot, "_sampled_chunks", lambda *given: order.append("sampled") or sampled(*given))
    on = replace(bundle, codec=wan(), compiled=True)
    film, _ = play(on, LONG, tmp_path / "whole")
    assert order == ["ready", "sampled"] and film.bundle.codec.arithmetic == "as written"
    play(on, LONG, tmp_path / "torn", stop_at=1)
    _, events = play(on, LONG, tmp_path / "torn")
    assert next(event.chunks for event in events if isinstance(event, Reused)) >= 1
    whole_film, torn = (
        next((tmp_path / name).glob("run-*/film.mp4")).read_bytes() for name in ("whole", "torn")
    )
    assert whole_film == torn


@pytest.mark.parametrize(("start", "first"), [(0, None), (5, None), (37, None), (0, 1), (9, 1)])
def test_no_film_compiles_for_its_decoder_in_its_midst(bundle, tmp_path, monkeypatch, start, first):
    """Beside the sampling a card could not: also where pictures stand in front of the first chunk."""
    counted, get_ready, ready = Counted(), WanDecoder.get_ready, []

    def noted(decoder, *size):
        get_ready(decoder, *size)
        ready.append(set(counted.shapes))

    monkeypatch.setattr(WanDecoder, "get_ready", noted)
    codec = wan().fused(wan_pieces.Fused(counted, "counted"))
    memory = replace(bundle.recipe.memory, recent=4, chunk=4)
    sample = replace(bundle.recipe.sample, first_chunk_frames=first)
    recipe = replace(bundle.recipe, memory=memory, sample=sample)
    pictures = torch.rand(start, 32, 32, 3) if start else None
    film = Film(replace(bundle, codec=codec, compiled=True), LONG, recipe, start=pictures)
    with Take.open(tmp_path) as take:
        Session(take, look(settle_pieces(film, tmp_path), tmp_path)).play(lambda event: None)
    assert [counted.shapes] == ready


def test_a_take_goes_on_as_it_was_begun(bundle, tmp_path, monkeypatch):
    """On a card; a film that has grown past where compiling pays keeps its chunks, and one that has shrunk, too."""
    auto = replace(bundle, compiled=None)
    play(bundle, SHORT, tmp_path / "eager")
    play(replace(bundle, compiled=True), LONG, tmp_path / "compiled")
    monkeypatch.setattr("gf_core.model.compiled.works", lambda device, dtype: True)
    monkeypatch.setattr(compiling, "WORTH_CHUNKS", 4)
    film = Film(auto, LONG, auto.recipe)
    assert settle_pieces(film, tmp_path).bundle.compiled is False, "on a processor"
    monkeypatch.setattr(ModelBundle, "computes_on", torch.device("cuda"))
    monkeypatch.setattr(ModelBundle, "device_name", "cpu")
    assert settle_pieces(film, tmp_path).bundle.compiled is True
    assert settle_pieces(film.retold(SHORT), tmp_path).bundle.compiled is False
    assert settle_pieces(film, tmp_path / "eager").bundle.compiled is False
    assert settle_pieces(film.retold(SHORT), tmp_path / "compiled").bundle.compiled is True
    settings = next((tmp_path / "compiled").glob("run-*/settings.json"))
    for damaged in ([], None, "cpu"):
        settings.write_text(json.dumps({**json.loads(settings.read_text()), "machine": damaged}))
        assert settle_pieces(film.retold(SHORT), tmp_path / "compiled").bundle.compiled is False


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_compiler_that_fails_costs_one_line(bundle, tmp_path, pieces, caplog, monkeypatch, wrapped):
    """With the reason, which torch wraps, and where what it has made before lies: that may be damaged."""
    monkeypatch.setenv(compiled.FOLDER, str(tmp_path / "code"))

    def fails(x, y, share):
        error = RuntimeError("no compiler found\nand much more")
        raise BackendCompilerFailed(lambda: None, error, None) if wrapped else error

    pieces.gated = fails
    caplog.set_level(logging.INFO, "grounded")
    for _ in range(2):
        film = settle_pieces(Film(replace(bundle, compiled=True), SHORT, bundle.recipe), tmp_path)
    assert film.key == Film(bundle, SHORT, bundle.recipe).key
    (line,) = [record.message for record in caplog.records]
    assert (
        "not compiled" in line
        and "RuntimeError: no compiler found" in line
        and "more" not in line.split(":", 1)[1]
        and f"kept in {tmp_path / 'code'}, which may be removed" in line
    )


@pytest.mark.parametrize("by", ["cancel", "listener"])
def test_a_film_is_stopped_while_it_is_compiled(bundle, tmp_path, monkeypatch, by):
    """Between two pieces: a compiler may take a minute for them all."""
    made, heard = [], []

    def compile(function, **how):
        return lambda *given: made.append(function) or function(*given)

    monkeypatch.setattr(torch, "compile", compile)
    fused = Fused(*MADE_BY.__wrapped__("eager"))
    monkeypatch.setattr(compiled, "_fused", lambda backend: fused)
    film = settle_pieces(Film(replace(bundle, compiled=True), LONG, bundle.recipe), tmp_path)
    made.clear()
    with Take.open(tmp_path) as take:
        session = Session(take, look(film, tmp_path))

        def listen(event):
            heard.append(event)
            if len(made) == 3 and by == "cancel":
                session.cancel()
            elif len(made) == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt) if by == "listener" else contextlib.nullcontext():
            session.play(listen)
    assert len(made) == 3
    assert by == "listener" or (heard[-1].cancelled and not heard[-1].frames)


def test_what_was_compiled_longest_ago_leaves_first(tmp_path):
    for age, name in enumerate(["new", "middle", "old"]):
        path = tmp_path / name / "code"
        path.parent.mkdir()
        path.write_bytes(bytes(100))
        os.utime(path, (10_000 - age, 10_000 - age))
    compiled.prune(tmp_path, 250)
    assert sorted(path.parent.name for path in tmp_path.rglob("code")) == ["middle", "new"]
    compiled.prune(tmp_path / "nowhere", 0)


@pytest.mark.parametrize(
    ("before", "ours"), [(None, True), ("{tmp}/torchinductor_somebody", True), ("{tmp}/my own", False)]
)
def test_code_is_kept_in_the_project_s_cache(monkeypatch, tmp_path, before, ours):
    """Also where torch has named its own folder, which it does when it is imported; a chosen one stays."""
    monkeypatch.setenv("GROUNDED_CACHE", str(tmp_path))
    monkeypatch.delenv(compiled.FOLDER, raising=False)
    if before is not None:
        before = before.format(tmp=tempfile.gettempdir())
        monkeypatch.setenv(compiled.FOLDER, before)
    compiled._keep_in_cache()
    assert os.environ[compiled.FOLDER] == (str(tmp_path / "compiled") if ours else before)


@pytest.mark.parametrize("kind", [True, False])
def test_compiling_does_not_make_a_model_look_slow(bundle, monkeypatch, kind):
    """Before its speed is tried: a pass that compiles takes longer than anybody waits for an estimate."""
    done = []

    def ready(sampler, plan):
        done.append("compiled")

    monkeypatch.setattr(Director, "prefill", lambda self, latents: done.append("prefill"))
    monkeypatch.setattr(trial, "COLD", -1.0)
    assert trial.try_out(replace(bundle, compiled=kind), None, bundle.recipe, Encoding(), ready) is None
    assert done == (["compiled"] if kind else []) + ["prefill"]


@pytest.mark.parametrize("kind", [True, False])
def test_compiling_does_not_make_a_decoder_look_slow(bundle, monkeypatch, kind):
    done, decode = [], WanDecoder.decode
    monkeypatch.setattr(WanDecoder, "get_ready", lambda self, *size: done.append(size))
    monkeypatch.setattr(WanDecoder, "decode", lambda *given: done.append("decode") or decode(*given))
    tried = replace(bundle, codec=wan(), compiled=kind)
    assert trial.try_out(tried, "a fox", bundle.recipe, Encoding(), lambda sampler, plan: None) is not None
    size = (*bundle.cells(bundle.recipe.video), [bundle.recipe.memory.chunk] * 2)
    assert done[: kind + 1] == ([size] if kind else []) + ["decode"]


def test_the_report_tells_of_all_compiling(bundle, tmp_path, monkeypatch):
    """Also of what was compiled for the estimate, before the film was begun."""
    monkeypatch.setattr(making, "WORTH_TRYING_CHUNKS", 1)
    plans = []
    monkeypatch.setattr(making, "get_ready", lambda sampler, *films: plans.extend(films) or 50.0)
    monkeypatch.setattr("gf_core.estimate.trial.try_out", lambda *given: given[-1](None, None))
    film = settle_pieces(Film(replace(bundle, compiled=True), "a fox runs | 0.75s", bundle.recipe), tmp_path)
    with Take.open(tmp_path) as take:
        found = look(film, tmp_path)
        told = making.make(Session(take, found), making.preflight(found)).report["seconds"]
    assert 50 < told["compiling"] < 60
    assert plans == [(None, 0), (found.film.plan, 0)], "what the film's verbs ask for is ready by then, too"


def test_damaged_code_costs_one_line(monkeypatch, tmp_path, caplog):
    """In place of torch's traceback for every piece; all else that it says is heard."""
    monkeypatch.setenv(compiled.FOLDER, str(tmp_path))
    compiled._keep_in_cache()
    said = logging.getLogger("torch._inductor.codecache")
    words = [f"{compiled.DAMAGED} compiled graph"] * 3 + ["something else"]
    for word in words:
        said.warning(word, exc_info=True)
    assert [record.message for record in caplog.records] == [
        f"compiled code in {tmp_path} is damaged, or there is no room: it is compiled anew", "something else",
    ]  # fmt: skip
    source = Path(torch.__file__).with_name("_inductor") / "codecache.py"
    assert compiled.DAMAGED in source.read_text(encoding="utf-8")


def test_several_ranks_do_without_and_say_so(bundle, tmp_path):
    bundle.team = SimpleNamespace(count=2)
    settled = settle_pieces(Film(bundle, LONG, bundle.recipe), tmp_path)
    assert settled.bundle.compiled is False
    bundle.compiled = True
    with pytest.raises(GroundedError, match="2 ranks exchange keys") as error:
        settle_pieces(Film(bundle, LONG, bundle.recipe), tmp_path)
    assert "--compile" in error.value.fix
