"""kill -9 and power cuts at any moment: the film plays, and the same storyboard goes on to the bytes of a whole one."""

from __future__ import annotations

import hashlib
import os
import random
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gf_core.config import Encoding
from gf_core.engine.events import ChunkDone
from gf_core.take.folder import Run, Take
from gf_core.take.journal import decode_record
from gf_core.video import read_frames

ROOT = Path(__file__).resolve().parents[2]
RENDER = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("tiny", sys.argv[1])
tiny = importlib.util.module_from_spec(spec)
sys.modules["tiny"] = tiny
spec.loader.exec_module(tiny)
from gf_core.take.folder import Take
bundle = tiny.tiny_bundle()
print("begun", flush=True)
with Take.open(sys.argv[2]) as take:
    tiny.Films().session(bundle, sys.argv[3], take).play(lambda event: None)
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


def finish(bundle, films, folder: Path, text: str) -> tuple[list, bytes]:
    """Render to the end in this process; latents' hashes and the film's bytes."""
    _, run = films.render(bundle, folder, text)
    return [record["latents"] for record in run.committed()], run.film.read_bytes()


@pytest.fixture(scope="module")
def whole(make_bundle, films, tmp_path_factory):
    """Latents' hashes and bytes of FILM and of EDITED, each made from nothing in one go."""
    folder = tmp_path_factory.mktemp("whole")
    return {text: finish(make_bundle(), films, folder / str(hash(text)), text) for text in (FILM, EDITED)}


def go_through(bundle, films, folder: Path, whole, moment: random.Random, kills: int) -> None:
    """Kill a render of FILM, then of EDITED, `kills` times each, and finish each of them."""
    for text in (FILM, EDITED):
        for _ in range(kills):
            kill(folder, text, moment.randint(0, 9), moment.uniform(0, 0.1))
            runs = sorted(path for path in folder.glob("run-*"))
            if runs and (runs[-1] / "journal.jsonl").exists() and (runs[-1] / "film.mp4").exists():
                check_playable(Run(runs[-1]))
        assert finish(bundle, films, folder, text) == whole[text]


def test_killed_renders_end_as_if_nothing_had_happened(bundle, films, tmp_path, whole):
    go_through(bundle, films, tmp_path, whole, random.Random(1), kills=1)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_killed_at_many_moments(bundle, films, tmp_path, whole):
    """GROUNDED_KILLS says how many moments, 50 if it is not set; two per kind of render and Take."""
    moment = random.Random(int(os.environ.get("GROUNDED_KILLS_SEED", "0")))
    for number in range(-(-int(os.environ.get("GROUNDED_KILLS", "50")) // 4)):
        go_through(bundle, films, tmp_path / str(number), whole, moment, kills=2)


class Disk:
    """What a power cut would leave of a folder: of a file its bytes as of its last fsync, of a folder its names so.

    Whenever a journal reaches the disk, all that it promises must be there already.
    """

    def __init__(self, folder: Path, monkeypatch) -> None:
        self.folder, self.checked = folder, 0
        self._bytes: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        self._real = os.fsync
        monkeypatch.setattr(os, "fsync", self._fsync)

    def _fsync(self, handle: int) -> None:
        self._real(handle)
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        found = os.fstat(handle)
        if stat.S_ISDIR(found.st_mode):
            self._names[found.st_ino] = {entry.name: entry.inode() for entry in os.scandir(path)}
        else:
            self._bytes[found.st_ino] = path.read_bytes()
        if path.name == "journal.jsonl":
            self.check()

    def left(self, *names: str) -> bytes | None:
        """Bytes of a file after a power cut now; None where its name, or that of a folder above, would be gone."""
        number = self.folder.stat().st_ino
        for name in names:
            number = self._names.get(number, {}).get(name)
        return None if number is None else self._bytes.get(number, b"")

    def records(self, run: str) -> list[dict]:
        """What the journal of a run would surely say."""
        return _decoded(self.left(run, "journal.jsonl") or b"")

    def check(self) -> None:
        """Every promise is kept of every journal, though a name that was not pushed down may be there as well."""
        for run in [path.name for path in self.folder.glob("run-*")]:
            film = self.left(run, "film.mp4")
            journal = self.folder / run / "journal.jsonl"
            said = self._bytes.get(journal.stat().st_ino, b"") if journal.exists() else b""
            for record in _decoded(said):
                if record["kind"] not in ("chunk", "latents"):
                    continue
                latents = self.left(run, "latents", f"{record['index']:06d}.safetensors")
                assert latents is not None, (
                    f"{run}: the name of the latents of chunk {record['index']} is lost"
                )
                assert hashlib.sha256(latents).hexdigest() == record["latents"], "latents are lost"
                if record["kind"] == "chunk":
                    assert film is not None, f"{run}: the film's name is lost"
                    assert len(film) >= record["film_bytes"], (
                        f"{run}: pictures of chunk {record['index']} are lost"
                    )
                    self.checked += 1
            if film is not None:
                for name in ("settings.json", "timeline.txt"):
                    assert self.left(run, name) == (self.folder / run / name).read_bytes(), f"{run}: {name}"


def _decoded(lines: bytes) -> list[dict]:
    return [record for line in lines.splitlines(True) if (record := decode_record(line)) is not None]


def _no_links(*_: object) -> None:
    raise OSError("this disk makes no hard links")


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="asks the system for the name behind a handle")
@pytest.mark.parametrize("links", [True, False], ids=["hard links", "copies"])
def test_a_power_cut_takes_nothing_that_was_promised(bundle, films, tmp_path, monkeypatch, links):
    """A film that is stopped and gone on with, an edit of it that takes chunks over, and another encoding."""
    folder = tmp_path / "take"
    text = "a fox | 1.5s\nthen: it runs | 0.75s\ncut: a hen | 0.75s\ncut: a cow | 0.75s"
    folder.mkdir()
    disk = Disk(folder, monkeypatch)
    if not links:
        monkeypatch.setattr(os, "link", _no_links)

    def render(text: str, run: str, stop: bool = False, **options) -> None:
        def listen(event) -> None:
            if isinstance(event, ChunkDone):
                promised = [r["index"] for r in disk.records(run) if r["kind"] == "chunk"]
                assert event.index in promised, (
                    f"chunk {event.index} was told of, and its line is not on the disk"
                )
                if stop and event.index == 1:
                    raise KeyboardInterrupt

        with Take.open(folder) as take:
            films.session(bundle, text, take, **options).play(listen)
        whole = Run(folder / run)
        assert disk.left(run, "journal.jsonl") == whole.journal.read_bytes()
        assert disk.left(run, "film.mp4") == whole.film.read_bytes()
        assert disk.left(run, "report.json") == whole.report.read_bytes()

    with pytest.raises(KeyboardInterrupt):
        render(text, "run-0001", stop=True)
    render(text, "run-0001")
    render(text.replace("a hen", "an owl"), "run-0002")
    render(text, "run-0003", encoding=Encoding(quality=30))
    assert disk.checked > 20 and len(Run(folder / "run-0002").committed()) == 5
    assert [record["from"] for record in Run(folder / "run-0002").committed() if "from" in record] == [
        "run-0001"
    ] * 3


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="asks the system for the name behind a handle")
def test_a_power_cut_leaves_the_name_of_a_new_take(bundle, films, tmp_path, monkeypatch):
    """The folders above it are new as well; and in it that of the states, which a film may have to go on from."""
    disk = Disk(tmp_path, monkeypatch)
    with Take.open(tmp_path / "films" / "takes" / "fox") as take:
        films.events(bundle, "a fox | 0.75s\ncut: a hen | 0.75s\nback to 1: it runs | 0.75s", take)
    for place in ("run-0001/journal.jsonl", "run-0001/film.mp4", *_states(take.folder)):
        assert disk.left("films", "takes", "fox", *place.split("/")), place


def _states(take: Path) -> list[str]:
    found = [f"states/{path.name}" for path in take.glob("states/*.memory.*")]
    assert found
    return found
