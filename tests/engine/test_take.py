"""The Take's folder: numbered runs, atomic files, one process at a time."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gf_core.errors import ResourceError, TakeError
from gf_core.files import atomic
from gf_core.take import lock as lock_module
from gf_core.take import own
from gf_core.take.folder import Take

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import sys
from gf_core.take.folder import Take
Take.open(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


def hold(folder: Path) -> subprocess.Popen:
    """Another process that has the Take open."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_each_render_gets_its_own_run_and_the_earlier_ones_stay(tmp_path):
    with Take.open(tmp_path / "film") as take:
        first = take.begin("a fox", {"seed": 7})
        first.save_latents(0, torch.arange(8.0).view(1, 2, 2, 2))
        latents = {"index": 0, "segment": 0, "key": "k", "latents": "", "anchor": None}
        first.commit({"kind": "chunk", **latents, "frames": 8, "first_frame": 0, "film_bytes": 0})
        first.close()
        second = take.begin("a hen", {"seed": 8})
        second.close()
        assert [run.folder.name for run in take.runs()] == ["run-0001", "run-0002"]
        old = take.runs()[0]
        assert old.timeline.read_text() == "a fox"
        assert [record["index"] for record in old.committed()] == [0]
        assert torch.equal(old.load_latents(0), torch.arange(8.0).view(1, 2, 2, 2))


def test_run_numbers_go_on_after_a_run_was_removed(tmp_path):
    with Take.open(tmp_path) as take:
        for _ in range(2):
            writer = take.begin("", {})
            writer.save_latents(0, torch.zeros(1))
            writer.close()
        shutil.rmtree(tmp_path / "run-0001")
        assert take.begin("", {}).run.folder.name == "run-0003"


OTHERS = {
    "nothing": lambda run: None,
    "latents": lambda run: (run / "latents" / "000000.safetensors").touch(),
    "a line of the journal": lambda run: (run / "journal.jsonl").write_text("{}\n"),
    "somebody's file": lambda run: (run / "notes.txt").touch(),
    "a link": lambda run: (run / "film.mp4").symlink_to(run / "elsewhere.mp4"),
    "a second name, as after cp -al": lambda run: os.link(run / "journal.jsonl", run.parent / "copy.jsonl"),
    "a drive without locks": lambda run: None,
}


@pytest.mark.parametrize("there", OTHERS)
def test_a_run_in_which_nothing_was_made_is_begun_again(tmp_path, there, monkeypatch, request):
    """But where anything is in it, or somebody else may have just begun it."""
    if there.startswith("a second name"):
        request.getfixturevalue("hard_links")

    def none(handle):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    if there == "a drive without locks":
        monkeypatch.setattr(lock_module, "_lock", none)
    with Take.open(tmp_path) as take:
        take.begin("a fox", {"seed": 7}).close()
        OTHERS[there](tmp_path / "run-0001")
        writer = take.begin("a hen", {"seed": 8})
        writer.close()
        assert writer.run.folder.name == ("run-0001" if there == "nothing" else "run-0002")
        assert writer.run.timeline.read_text() == "a hen"


def test_a_second_process_is_told_who_holds_the_take(tmp_path):
    process = hold(tmp_path)
    try:
        with pytest.raises(TakeError, match=f"in use by process {process.pid}"):
            Take.open(tmp_path)
    finally:
        process.communicate("")
    Take.open(tmp_path).close()


def test_what_another_process_is_writing_is_left_alone(tmp_path):
    """Its half-written files are swept away by whoever holds the Take next, not by one that is refused."""
    with Take.open(tmp_path) as take:
        writer = take.begin("", {})
        writer.save_latents(0, torch.zeros(1, 2, 2, 2))
        writer.close()
    parts = [
        tmp_path / "states" / f".000004-{'a' * 24}.{kind}.safetensors.0123abcd.part"
        for kind in ("memory", "decoder", "window")
    ]
    parts.append(tmp_path / "run-0001" / "report.json.part")
    parts.append(tmp_path / "run-0001" / "latents" / "000004.safetensors.part")
    segment = tmp_path / "segment-002-2"
    parts += [segment / f".{name}.0123abcd.part" for name in ("a.mp4", "a fox, .mp4", "takes.json")]
    parts.append(segment / ".sheet.png.0123abcd.png")
    for folder in (parts[0].parent, segment):
        folder.mkdir()
    process = hold(tmp_path)
    try:
        for part in parts:
            part.write_bytes(b"half")
        with pytest.raises(TakeError, match="in use by"):
            Take.open(tmp_path)
        assert all(part.read_bytes() == b"half" for part in parts)
    finally:
        process.communicate("")
    Take.open(tmp_path).close()
    assert not any(part.exists() for part in parts)


def test_a_killed_process_leaves_no_lock_behind(tmp_path):
    process = hold(tmp_path)
    process.kill()
    process.communicate()
    Take.open(tmp_path).close()


def test_one_process_cannot_open_a_take_twice(tmp_path):
    with Take.open(tmp_path), pytest.raises(TakeError, match="in use by this process"):
        Take.open(tmp_path)
    Take.open(tmp_path).close()


def test_a_take_in_which_nothing_was_made_goes_or_stays_without_a_word(tmp_path, monkeypatch, windows):
    with Take.open(tmp_path / "a" / "b"):
        pass
    assert not (tmp_path / "a").exists()

    def in_use(path, **_):
        raise PermissionError(errno.EACCES, "in use", str(path))

    with monkeypatch.context() as patch, Take.open(tmp_path / "a" / "b"):
        patch.setattr(Path, "unlink", in_use)
    Take.open(tmp_path / "a" / "b").close()


def test_a_take_that_cannot_be_looked_into_is_let_go(tmp_path, monkeypatch):
    with Take.open(tmp_path) as take:
        take.begin("", {}).close()

    def refuse(folders):
        raise PermissionError(errno.EACCES, "not for you")

    with monkeypatch.context() as patch, pytest.raises(TakeError, match="looking into the Take"):
        patch.setattr(own, "sweep", refuse)
        Take.open(tmp_path)
    Take.open(tmp_path).close()


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path):
    path = tmp_path / "f"
    atomic.write_text(path, "old")

    def fail(part: Path) -> None:
        part.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device", str(part))

    with pytest.raises(OSError) as told:
        atomic.write_atomic(path, fail)
    assert told.value.filename == str(path)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["f"]


def test_disk_errors_are_said_in_words(tmp_path):
    full = atomic.disk_error(OSError(errno.ENOSPC, "x"), tmp_path, "saving")
    assert isinstance(full, ResourceError) and "disk is full" in str(full) and "fix:" in str(full)
    assert "permission" in str(atomic.disk_error(PermissionError(errno.EACCES, "x"), tmp_path, "saving"))
    with pytest.raises(TakeError, match="is a file"):
        atomic.write_text(tmp_path / "plain", "")
        Take.open(tmp_path / "plain")


def test_damaged_latents_are_named(tmp_path):
    with Take.open(tmp_path) as take:
        writer = take.begin("", {})
        writer.save_latents(3, torch.zeros(1, 2, 2, 2))
        writer.run.latents(3).write_bytes(b"short")
        with pytest.raises(TakeError, match="chunk 3"):
            writer.run.load_latents(3)
        with pytest.raises(TakeError, match="chunk 4"):
            writer.run.load_latents(4)


@pytest.mark.parametrize("gone", ["the lock", "the folder too"])
def test_a_lock_that_its_last_owner_removes_meanwhile_holds_nothing(tmp_path, monkeypatch, posix, gone):
    """A process that has made nothing takes its empty Take away, while another one is just opening it."""
    folder, real = tmp_path / "take", lock_module._lock

    def removed(handle):
        monkeypatch.setattr(lock_module, "_lock", real)
        (folder / "lock").unlink()
        if gone == "the folder too":
            folder.rmdir()
        real(handle)

    monkeypatch.setattr(lock_module, "_lock", removed)
    with Take.open(folder), pytest.raises(TakeError, match="in use"):
        Take.open(folder)
