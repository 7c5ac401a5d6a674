"""kill -9 at any moment leaves a film that plays and every journalled chunk whole."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

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
plan = tiny.plan_for(bundle, "a fox | 30s\\nthen: it runs | 30s\\ncut: a hen | 1000s")
for event in Session(bundle, plan, Take.open(sys.argv[2])).run():
    pass
"""


def lines(run: Run) -> int:
    return run.journal.read_bytes().count(b"\n") if run.journal.exists() else 0


@pytest.mark.parametrize("seed", [1, 2])
def test_a_killed_render_leaves_a_playable_film_and_whole_chunks(tmp_path, seed):
    moment = random.Random(seed)
    wanted, delay = moment.randint(2, 12), moment.uniform(0, 0.3)
    command = [sys.executable, "-c", RENDER, str(Path(__file__).with_name("conftest.py")), str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT)
    run = Run(tmp_path / "run-0001")
    try:
        while lines(run) < wanted:
            assert process.poll() is None, "the render ended by itself"
            time.sleep(0.01)
        time.sleep(delay)
    finally:
        process.kill()
        process.wait()
    records = run.committed()
    assert [record["index"] for record in records] == list(range(len(records))) and len(records) >= wanted
    for record in records:
        data = run.latents(record["index"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == record["latents"]
        assert run.load_latents(record["index"]).shape == (3, 16, 4, 4)
    # The film may hold one chunk more than the journal: it is written first.
    promised, playing = sum(record["frames"] for record in records), sum(1 for _ in read_frames(run.film))
    assert promised <= playing <= promised + 12
    with Take.open(tmp_path) as take:
        assert take.begin("", {}).run.folder.name == "run-0002"
