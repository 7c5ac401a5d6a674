"""What is known of the built-in model from a note, and that a note which does not fit is not believed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gf_core import load_model
from gf_core.builtin import BUILTIN_FOLDER
from gf_core.checkpoints.model_bundle import ModelBundle
from gf_core.checkpoints.noted import NotedBundle, note_bundle, note_of, recall_bundle, without_card
from gf_core.engine.film import Film, look
from gf_core.engine.render import render_settled
from gf_core.errors import PromptError
from gf_core.estimate.room import bundle_cost
from gf_core.take.facts import kernels
from gf_core.video.reader import read_frames

TEXT = "a red fox walks left in a meadow | 0.75s\n"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def opened():
    return replace(load_model("builtin"), compiled=False)


@pytest.fixture
def note(opened, tmp_path, monkeypatch):
    monkeypatch.setenv("GROUNDED_CACHE", str(tmp_path / "cache"))
    note = note_of("builtin", None)
    note_bundle(note, opened, kernels(opened, opened.recipe))
    return note


def recalled(note: Path, opened: ModelBundle, asked: list | None = None) -> NotedBundle:
    def opens() -> ModelBundle:
        assert asked is not None
        asked.append(1)
        return opened

    noted = recall_bundle(note, opens)
    assert noted is not None
    return noted


def test_a_film_of_what_is_noted_is_the_same_film(opened, note):
    noted = recalled(note, opened)
    films = [Film(bundle, TEXT, bundle.recipe) for bundle in (noted, opened)]
    assert films[0].settings == films[1].settings and films[0].plan == films[1].plan
    assert bundle_cost(noted) == replace(bundle_cost(opened), resident=bundle_cost(noted).resident)
    for film in films:
        with pytest.raises(PromptError, match="does not know: fux"):
            replace(film, text=TEXT.replace("fox", "fux")).check()


def test_a_finished_film_is_rendered_without_torch(opened, note, tmp_path):
    film = Film(opened, TEXT, opened.recipe)
    render_settled(film, tmp_path / "film.mp4", take_folder=tmp_path / "take", sheet=False)
    (tmp_path / "film.txt").write_text(TEXT, encoding="utf-8")
    code = (
        "import sys; from gf_core.cli import main\n"
        "status = main(['render', 'film.txt', '--take', 'take', '--upscale', '1', '--out', 'again.mp4'])\n"
        "sys.exit(status or 'torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0 and (tmp_path / "again_sheet.png").exists()
    assert all(map(np.array_equal, *(read_frames(tmp_path / name) for name in ("again.mp4", "film.mp4"))))
    assert not (tmp_path / "take" / "run-0002").exists()


def test_what_was_noted_and_is_not_so_is_looked_up_anew(opened, note, tmp_path):
    film = Film(opened, TEXT, opened.recipe)
    render_settled(film, tmp_path / "film.mp4", take_folder=tmp_path / "take", sheet=False)
    asked = []
    noted = recalled(note, opened, asked)
    found = look(replace(film, bundle=noted), tmp_path / "take")
    assert found.reuse.finished and not asked
    other = replace(noted, kernels={**noted.kernels, "instructions": "others"})
    found = look(replace(film, bundle=other), tmp_path / "take")
    assert found.reuse.finished and asked and found.film.settings == film.settings


def test_opened_it_computes_as_was_asked_of_the_note(opened, note):
    noted = recalled(note, opened, [])
    for compiled in (True, False):
        assert replace(noted, compiled=compiled).opened().compiled is compiled


def test_notes_that_were_used_longest_ago_leave(opened, note, monkeypatch):
    older = note.with_name("older.json")
    older.write_bytes(note.read_bytes())
    os.utime(older, (1, 1))
    monkeypatch.setattr("gf_core.checkpoints.noted.MOST", note.stat().st_size)
    note_bundle(note, opened, kernels(opened, opened.recipe))
    assert note.exists() and not older.exists()


@pytest.mark.parametrize(
    ("torch", "driver", "without"),
    [
        ("cuda = None", True, True),
        ("cuda = '13.0'", True, False),
        ("cuda = '13.0'", False, True),
        ("cuda = None\nhip = '7.0'", False, False),
        ("cuda = None\nhip = None\nxpu = '2025'", False, False),
    ],
)
def test_whether_there_may_be_a_card_is_seen_without_torch(torch, driver, without, tmp_path, monkeypatch):
    def load(name):
        if not driver:
            raise OSError(f"{name} is not there")

    (tmp_path / "version.py").write_text(torch)
    monkeypatch.setattr("gf_core.checkpoints.noted._version_of_torch", lambda: tmp_path / "version.py")
    monkeypatch.setattr("gf_core.checkpoints.noted.ctypes.CDLL", load)
    assert without_card() is without


POSIX = pytest.mark.skipif(os.name == "nt", reason="Windows does not note when a file was put there")


@pytest.mark.parametrize(
    "change",
    [
        "weights",
        "threads",
        "program",
        "type",
        "no text",
        *(pytest.param(n, marks=POSIX) for n in ("bytes", "missing")),
    ],
)
def test_another_state_has_another_note(change, tmp_path, monkeypatch):
    model = tmp_path / "model"
    shutil.copytree(BUILTIN_FOLDER, model)
    monkeypatch.setattr("gf_core.checkpoints.noted.PROGRAM", tmp_path)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = note_of(str(model), None)
    assert note_of(str(model), None) == before
    codec = model / "codec.safetensors"
    if change in ("threads", "no text"):
        monkeypatch.setenv("OMP_NUM_THREADS", "3" if change == "threads" else "\udcff")
    elif change == "bytes":
        state, data = codec.stat(), codec.read_bytes()
        time.sleep(0.01)  # as fine as a disk's clock may be
        codec.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        os.utime(codec, ns=(state.st_atime_ns, state.st_mtime_ns))
    elif change == "missing":
        codec.unlink()
        (tmp_path / "gone.py").symlink_to("nowhere")
    elif change != "type":
        os.utime(codec if change == "weights" else model / "__init__.py", (1, 1))
    assert note_of(str(model), "bfloat16" if change == "type" else None) != before


@pytest.mark.parametrize("damage", [lambda b: b[:-20], lambda b: b.replace(b"fox", b"fax"), lambda b: b"{}"])
def test_a_damaged_note_is_not_believed(damage, opened, note, caplog):
    note.write_bytes(damage(note.read_bytes()))
    assert recall_bundle(note, lambda: opened) is None and "not read" in caplog.text


def test_the_note_of_another_state_in_its_place_is_not_believed(opened, note, caplog):
    other = note.rename(note.with_name("0" * 64 + ".json"))
    assert recall_bundle(other, lambda: opened) is None and "not read" in caplog.text
    assert recall_bundle(other.rename(note), lambda: opened) is not None


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes among files")
def test_a_pipe_in_the_place_of_a_note_is_not_waited_for(opened, tmp_path, caplog):
    os.mkfifo(tmp_path / "pipe")
    assert recall_bundle(tmp_path / "pipe", lambda: opened) is None and "it is no file" in caplog.text


def test_opening_is_not_counted_as_looking(opened, note, tmp_path):
    noted = recalled(note, opened)
    noted.opens = lambda: time.sleep(0.3) or opened
    assert look(Film(noted, TEXT, noted.recipe), tmp_path / "take").seconds < 0.3
