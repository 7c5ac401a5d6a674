"""A film on two ranks that torchrun starts: whatever ends one ends all, and the same command goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
TEXT = "a red fox walks right in a meadow at noon | 3s\nthen: it jumps | 2s\ncut: it sleeps | 2s"


class Film:
    """The command, and the journal of what it makes."""

    def __init__(self, folder: Path, *options: str, ranks: int = 2) -> None:
        self.folder, board = folder, folder / "board.txt"
        board.write_text(TEXT)
        self.command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nproc-per-node",
            str(ranks),
            "-m",
            "gf_core",
        ]
        self.command += ["render", str(board), "--size", "64x48", "--device", "cpu", "--no-sheet", *options]
        self.command += ["--take", str(folder / "take"), "--out", str(folder / "film.mp4")]

    def start(self) -> subprocess.Popen:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            self.command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    @property
    def lines(self) -> int:
        journals = sorted(self.folder.glob("take/run-*/journal.jsonl"))
        return journals[-1].read_bytes().count(b"\n") if journals else 0

    def stop(self, how) -> tuple[str, list[psutil.Process]]:
        """What is said when `how` is done to torchrun and its ranks two lines of the journal later; and these."""
        before, run = self.lines, self.start()
        while self.lines < before + 2:
            assert run.poll() is None
            time.sleep(0.02)
        parent = psutil.Process(run.pid)
        ranks = sorted(parent.children(), key=lambda rank: int(rank.environ()["RANK"]))
        how(parent, ranks)
        return run.communicate(timeout=60)[0], ranks


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="torchrun's signals are those of POSIX")
@pytest.mark.parametrize("wave", [False, True], ids=["", "wave"])
def test_whatever_ends_one_rank_ends_all_and_the_film_goes_on(tmp_path, wave):
    film = Film(tmp_path, *(["--memory", "wave_forcing"] if wave else []))
    for how in (
        lambda parent, ranks: parent.send_signal(signal.SIGINT),
        lambda parent, ranks: ranks[1].kill(),
        lambda parent, ranks: ranks[0].kill(),
    ):
        made = film.lines
        said, ranks = film.stop(how)
        assert not any(rank.is_running() for rank in ranks), said
        assert film.lines >= made + 2
    if wave:  # ranks change no bit of it, so it goes on without them
        film.command[1 : film.command.index("gf_core")] = ["-m"]
    last = film.start()
    said = last.communicate(timeout=200)[0]
    assert last.returncode == 0, said
    assert "chunks as they were; the rest was not made yet" in said and ("ranks    2, " in said) is not wave
    # Killed between a line and what is kept of those on the way, it goes on at a segment's end, in a run of its own.
    assert wave or len(list(tmp_path.glob("take/run-*"))) == 1
    runs = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("take/run-*/settings.json"))]
    assert all(run == runs[0] for run in runs), "under one key"


@pytest.mark.slow
def test_a_wave_is_the_same_film_on_any_number_of_ranks(tmp_path):
    told = []
    for ranks in (1, 2, 4):
        folder = tmp_path / str(ranks)
        folder.mkdir()
        said = Film(folder, "--memory", "wave_forcing", ranks=ranks).start().communicate(timeout=300)[0]
        assert ("ranks    " in said) is (ranks > 1), said
        (journal,) = folder.glob("take/run-*/journal.jsonl")
        lines = map(json.loads, journal.read_text().splitlines())
        told.append([(line["key"], line["latents"]) for line in lines if line["kind"] == "chunk"])
    assert told[0] == told[1] == told[2] and len(told[0]) == 10


@pytest.mark.slow
def test_what_cannot_be_made_is_said_once(tmp_path):
    film = Film(tmp_path)
    film.command[film.command.index("64x48")] = "64x16"
    said = film.start().communicate(timeout=100)[0]
    assert said.count("2 ranks cannot share the 1 rows of tokens") == 1
