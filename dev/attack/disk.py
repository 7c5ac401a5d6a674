"""Kills commands, fills the disk, sets limits and lets calls of the system fail: the next render must be as if nothing
had happened.

    python dev/attack/disk.py [--seed 1] [--kills 45] [--commands 26] [--picks 60] [--failures 60]

Every command runs in a process of its own. Renders, edits over a Take, takes of a segment, `tidy` and `pick` are killed
with -9 at a random moment; so is the real command line with the built-in model, its imports included. A disk of 4 MB
(Linux, as root) is filled to more and more; files, handles, memory and threads are limited; fsync, rename and open
give EIO, ENOSPC, EDQUOT or EROFS. A command must end in a film or in words; after that the film is rendered and
placed, and has the bytes of an undisturbed one, with nothing left over in the Take. Prints a row per kind; ends with
status 1 after a failure.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import gf_core.checkpoints.bundle as bundles
import gf_core.cli.render  # what is imported here, no process has to import by itself
import gf_core.cli.small
import gf_core.engine.making  # noqa: F401
from dev.attack.tries import Tally, asked, run

ROOT = Path(__file__).resolve().parents[2]
tiny_bundle = runpy.run_path(str(ROOT / "tests" / "engine" / "conftest.py"))["tiny_bundle"]
TEXT = "a fox runs | 1.5s\nthen: it jumps | 1.5s\ncut: a hen | 0.75s\n"
OTHER = TEXT.replace("it jumps", "it sits")
RENDER = ["render", "film.txt", "--take", "take", "--upscale", "1", "--no-sheet", "--out", "film.mp4"]
COMMANDS = {
    "render": RENDER,
    "edit": [*RENDER[:1], "other.txt", *RENDER[2:-1], "other.mp4"],
    "takes": ["takes", "film.txt", "--segment", "2", "--seeds", "2", "--take", "take", "--upscale", "1"],
    "tidy": ["tidy", "take"],
    "pick": ["pick", "film.txt", "2", "b", "--take", "take"],
}
CALLS = ("fsync", "replace", "open")
ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS)
THREADS = -1
"""RLIMIT_NPROC as a process meets it, for nobody limits root: it starts no more threads."""
LIMITS = [
    *((resource.RLIMIT_FSIZE, size) for size in (0, 300, 2_000, 20_000, 60_000, 200_000)),
    *((resource.RLIMIT_NOFILE, handles) for handles in (6, 8, 10, 12, 16, 24)),
    *((resource.RLIMIT_AS, more << 20) for more in (1, 5, 20, 60, 120, 400)),
    *((THREADS, threads) for threads in (0, 1, 2, 4)),
]
NAMES = {
    THREADS: "threads",
    **{getattr(resource, name): name for name in ("RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_AS")},
}
DISK = 4 << 20
"""Bytes of the small disk."""


def begin(place: Path) -> Path:
    """A folder with the storyboards."""
    place.mkdir(parents=True, exist_ok=True)
    place.chmod(0o777)
    (place / "film.txt").write_text(TEXT)
    (place / "other.txt").write_text(OTHER)
    return place


def wrong(place: Path, want: dict[str, bytes]) -> str:
    """Render both films; what is not as it should be afterwards, or nothing."""
    for film in want:
        (place / film).unlink(missing_ok=True)
    (place / "film.txt").write_text(TEXT)
    ends = [run(COMMANDS[name], place) for name in ("render", "edit")]
    if set(ends) != {"ok"}:
        return f"the next films end in: {ends}"
    films = [film for film in want if (place / film).read_bytes() != want[film]]
    rests = [str(path.relative_to(place)) for path in place.rglob("*.part")]
    return f"{films} differ, {rests} left over" if films or rests else ""


def attempt(end: str, place: Path, want: dict[str, bytes]) -> str:
    """What is wrong with how a command ended, or with the next films; empty where nothing is."""
    fault = "" if end in ("ok", "words", "killed") else end
    return "; ".join(filter(None, (fault, wrong(place, want))))


def kills(count: int, top: Path, dice: random.Random, want: dict[str, bytes]) -> Iterator[tuple[str, str]]:
    """kill -9 of a render, of going on, of an edit over the Take, of takes and tidy: up to three, one after another."""
    began = time.monotonic()
    run(RENDER, begin(top / "timed"))
    usual = time.monotonic() - began
    while count > 0:
        place, done = begin(top / f"kill {count}"), []
        for name in dice.choice(
            [["render"], ["render", "render"], ["render", "edit"], ["edit", "takes", "tidy"]]
        ):
            done.append(f"{name} {run(COMMANDS[name], place, kill=dice.uniform(0, usual))}")
            count -= 1
        yield f"kill -9 ({len(done)} in a row)", (fault := wrong(place, want)) and f"{done}: {fault}"
        shutil.rmtree(place)


def picks(count: int, top: Path, dice: random.Random) -> Iterator[tuple[str, str]]:
    """kill -9 of pick: the storyboard is the old or the new one."""
    place = begin(top / "picks")
    run(COMMANDS["takes"], place)
    began = time.monotonic()
    run(COMMANDS["pick"], place)
    usual, new = time.monotonic() - began, (place / "film.txt").read_text()
    for _ in range(count):
        (place / "film.txt").write_text(TEXT)
        end = run(COMMANDS["pick"], place, kill=dice.uniform(0, usual))
        said = (place / "film.txt").read_text()
        yield (
            f"kill -9 of pick, {end}",
            "" if new != TEXT and said in (TEXT, new) else f"half of it: {said!r}",
        )


def command_lines(count: int, top: Path, dice: random.Random) -> Iterator[tuple[str, str]]:
    """kill -9 of the command line itself with the built-in model, its imports included, twice in a Take."""
    words = [sys.executable, "-m", "gf_core", *RENDER]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GROUNDED_CACHE": str(top / "cache")}

    def start(place: Path) -> subprocess.Popen[bytes]:
        (place / "film.txt").write_text(
            "a red fox walks left in a meadow | 0.75s\ncut: a red fox jumps | 0.75s\n"
        )
        return subprocess.Popen(
            words, cwd=place, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )

    began, whole = time.monotonic(), begin(top / "whole")
    start(whole).wait()
    usual = time.monotonic() - began
    for number in range(-(-count // 2)):
        place = begin(top / f"command {number}")
        for _ in range(2):
            child = start(place)
            time.sleep(dice.uniform(0, usual))
            child.kill()
            child.wait()
        status = start(place).wait()
        same = not status and (place / "film.mp4").read_bytes() == (whole / "film.mp4").read_bytes()
        rests = [path.name for path in place.rglob("*.part")]
        yield (
            "kill -9 of the real command, twice",
            "" if same and not rests else f"status {status}, {rests} left over",
        )


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """A disk of `DISK` bytes at `place`."""
    place.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", place], check=True, capture_output=True
    )
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def full_disks(top: Path, want: dict[str, bytes]) -> Iterator[tuple[str, str]]:
    """A Take, or the place of the film, on a disk with less and less room; again when there is room."""
    for step in range(18):
        with small_disk(top / f"disk {step}") as disk:
            place = begin(disk / "a" if step < 12 else top / f"beside {step}")
            words = RENDER if step < 12 else [*RENDER[:-1], str(disk / "film.mp4")]
            room = (0, 4, 8, 16, 32, 64, 128, 192, 256, 320, 512, 1024)[step % 12] * 1024
            with open(disk / "fill", "wb") as fill:
                taken = 32 << 10 if step < 12 else 0  # by the storyboards and their folder
                os.posix_fallocate(fill.fileno(), 0, DISK - room - taken)
            end = run(words, place)
            (disk / "fill").unlink()
            yield f"a full disk, {end}", (fault := attempt(end, place, want)) and f"{room} bytes: {fault}"


def limited(kind: int, value: int) -> None:
    """Set a limit; of memory, beyond what the process has."""
    if kind == resource.RLIMIT_AS:
        value += int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    if kind == resource.RLIMIT_FSIZE:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    if kind == THREADS:
        failing(threading.Thread, "start", value + 1, 10**9, RuntimeError("can't start new thread"))
    else:
        resource.setrlimit(kind, (value, value))


def limits(top: Path, want: dict[str, bytes]) -> Iterator[tuple[str, str]]:
    """Few bytes a file, few handles, little memory, few threads."""
    for number, (kind, value) in enumerate(LIMITS):
        place = begin(top / f"limit {number}")
        end = run(RENDER, place, first=partial(limited, kind, value))
        yield (
            f"{NAMES[kind]}, {end.partition(':')[0]}",
            (fault := attempt(end, place, want)) and f"{value}: {fault}",
        )


def failing(owner: Any, call: str, number: int, times: int, error: Exception) -> None:
    """Let the `number`-th such call and those behind it fail, so many."""
    real, count = getattr(owner, call), [0]

    def fails(*given: Any, **named: Any) -> Any:
        count[0] += 1
        if number <= count[0] < number + times:
            raise error
        return real(*given, **named)

    setattr(owner, call, fails)


def failures(count: int, top: Path, dice: random.Random, want: dict[str, bytes]) -> Iterator[tuple[str, str]]:
    """A disk that gives errors."""
    for number in range(count):
        place, call, code = begin(top / f"error {number}"), CALLS[number % 3], ERRORS[number // 3 % 4]
        at, error = dice.randrange(1, 30), OSError(code, os.strerror(code))
        end = run(RENDER, place, first=partial(failing, os, call, at, 4, error))
        fault = attempt(end, place, want)
        yield (
            f"{call}, {end.partition(':')[0]}",
            fault and f"{errno.errorcode[code]} from call {at} on: {fault}",
        )


def main() -> int:
    """Command line."""
    args = asked(__doc__, seed=1, kills=45, commands=26, picks=60, failures=60)
    bundles.load_model = lambda *_, **__: tiny_bundle()  # what is tried is how a Take is kept
    dice, tally = random.Random(args.seed), Tally()
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        os.chmod(top, 0o777)
        os.environ["GROUNDED_CACHE"] = str(top / "cache")
        whole = begin(top / "want")
        assert [run(COMMANDS[name], whole) for name in ("render", "edit")] == ["ok", "ok"]
        want = {film: (whole / film).read_bytes() for film in ("film.mp4", "other.mp4")}
        attacks = [
            kills(args.kills, top, dice, want), picks(args.picks, top, dice), limits(top, want),
            failures(args.failures, top, dice, want), command_lines(args.commands, top, dice),
        ]  # fmt: skip
        if sys.platform == "linux" and os.getuid() == 0:
            attacks.insert(2, full_disks(top, want))
        for attack in attacks:
            for kind, fault in attack:
                tally.count(kind, fault)
    return tally.told()


if __name__ == "__main__":
    sys.exit(main())
