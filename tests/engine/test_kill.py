"""kill -9 at any moment: the film plays, and the same storyboard goes on to the bytes of an uninterrupted one."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gf_core.engine.session import Session
from gf_core.engine.take import Run, Take
from gf_core.video import read_frames

ROOT = Path(__file__).resolve().parents[2]
RENDER = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("tiny", sys.argv[1])
tiny = importlib.util.module_from_spec(spec)
sys.modules["tiny"] = tiny
spec.loader.exec_module(tiny)
from gf_core.engine.session import Session
from gf_core.engine.take import Take
bundle = tiny.tiny_bundle()
plan = tiny.plan_for(bundle, sys.argv[3])
print("begun", flush=True)
with Take.open(sys.argv[2]) as take:
    Session(bundle, plan, take, timeline=sys.argv[3]).play(lambda event: None)
print("done", flush=True)
"""
FILM = "a fox | 6s\nthen: it runs | 6s | blend 2s\ncut: a hen | 6s\nthen: it sits | 6s\nscene: a boat | 6s"
EDITED = FILM.replace("it sits", "it sleeps")


def lines(folder: Path) -> int:
    """Journal lines of the newest run."""
    runs = sorted(folder.glob("run-*"))
    journal = runs[-1] / "journal.jsonl" if runs else folder
    return journal.read_bytes().count(b"\n") if journal.is_file() else 0


def kill(folder: Path, text: str, more: int, delay: float) -> None:
    """Render in another process; kill it `delay` seconds after it has committed `more` lines to a journal."""
    command = [sys.executable, "-c", RENDER, str(Path(__file__).with_name("conftest.py")), str(folder), text]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "begun\n"
        before, runs = lines(folder), len(list(folder.glob("run-*")))
        while process.poll() is None:
            if len(list(folder.glob("run-*"))) > runs:
                before, runs = 0, runs + 1
            if lines(folder) >= before + more:
                break
            time.sleep(0.002)
        time.sleep(delay)
    finally:
        process.kill()
        process.communicate()


def check_playable(run: Run) -> None:
    """Every journalled chunk is whole, and the film holds them, and at most one more: it is written first."""
    records = run.committed()
    assert [record["index"] for record in records] == list(range(len(records)))
    for record in records:
        data = run.latents(record["index"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == record["latents"]
    promised = sum(record["frames"] for record in records)
    playing = sum(1 for _ in read_frames(run.film)) if records else promised
    assert promised <= playing <= promised + 12


def finish(bundle, planned, folder: Path, text: str) -> tuple[list, bytes]:
    """Render to the end in this process; latents' hashes and the film's bytes."""
    with Take.open(folder) as take:
        *_, end = Session(bundle, planned(bundle, text), take, timeline=text).run()
    run = Run(end.path.parent)
    return [record["latents"] for record in run.committed()], run.film.read_bytes()


@pytest.fixture(scope="module")
def whole(make_bundle, planned, tmp_path_factory):
    """Latents' hashes and bytes of FILM and of EDITED, each made from nothing in one go."""
    folder = tmp_path_factory.mktemp("whole")
    return {text: finish(make_bundle(), planned, folder / str(hash(text)), text) for text in (FILM, EDITED)}


def go_through(bundle, planned, folder: Path, whole, moment: random.Random, kills: int) -> None:
    """Kill a render of FILM, then of EDITED, `kills` times each, and finish each of them."""
    for text in (FILM, EDITED):
        for _ in range(kills):
            kill(folder, text, moment.randint(0, 9), moment.uniform(0, 0.1))
            runs = sorted(path for path in folder.glob("run-*"))
            if runs and (runs[-1] / "journal.jsonl").exists() and (runs[-1] / "film.mp4").exists():
                check_playable(Run(runs[-1]))
        assert finish(bundle, planned, folder, text) == whole[text]


def test_killed_renders_end_as_if_nothing_had_happened(bundle, planned, tmp_path, whole):
    go_through(bundle, planned, tmp_path, whole, random.Random(1), kills=1)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_killed_at_many_moments(bundle, planned, tmp_path, whole):
    """GROUNDED_KILLS says how many moments, 50 if it is not set; two per kind of render and Take."""
    moment = random.Random(int(os.environ.get("GROUNDED_KILLS_SEED", "0")))
    for number in range(-(-int(os.environ.get("GROUNDED_KILLS", "50")) // 4)):
        go_through(bundle, planned, tmp_path / str(number), whole, moment, kills=2)
