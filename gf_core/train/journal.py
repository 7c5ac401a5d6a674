"""What a run tells: lines for people, JSON lines for programs, and Weights & Biases where somebody wants it."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from logging.handlers import MemoryHandler
from pathlib import Path

from .. import team
from ..errors import GroundedError

try:
    import fcntl
except ImportError:  # Windows, which lets nobody remove a file that another process has open
    fcntl = None

LOG = "train.log"
"""Lines of a run, in its folder."""


FORMAT, TIME = "%(asctime)s %(message)s", "%H:%M:%S"
"""Of a line of the log."""
HELD = 1000
"""Lines that are held until there is a folder for them; a training says a handful before."""


def set_up_log(folder: Path, first: bool = True) -> None:
    """Lines on the terminal; the first rank holds them for `open_log` too. Nothing is made.

    Raises GroundedError where a file is in the folder's way.
    """
    there = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
    if not there.is_dir():
        what = "a file" if there.exists() else "a link to nothing"
        raise GroundedError(f"{there} is {what}, and a run needs a folder", "name another one with --folder")
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if first:
        handlers.append(MemoryHandler(HELD, flushLevel=logging.CRITICAL + 1))
    logging.getLogger("grounded").addFilter(_Once("attention:"))
    level = logging.INFO if first else logging.WARNING
    logging.basicConfig(level=level, handlers=handlers, format=FORMAT, datefmt=TIME, force=True)


def open_log(folder: Path) -> None:
    """Make the folder; what was held, and every line from here on, goes into FOLDER/train.log, too."""
    root = logging.getLogger()
    for held in [handler for handler in root.handlers if isinstance(handler, MemoryHandler)]:
        folder.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(
            folder / LOG, "a+"
        )  # in a network only what can be read is locked as shared
        if fcntl is not None and file.stream is not None:
            with suppress(OSError):  # a drive without locks
                fcntl.flock(file.stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        file.setFormatter(logging.Formatter(FORMAT, TIME))
        held.setTarget(file)
        held.close()
        root.removeHandler(held)
        root.addHandler(file)


@contextmanager
def or_nothing(folder: Path) -> Iterator[None]:
    """Around a training: one that ends in an error before it has kept anything leaves `folder` as it was.

    Its lines go out of the log again, and the folders that it made for them. A log stays as it is where another
    training has it open, where it is another file than before, and on a drive that has no locks.
    """
    place = team.launched()
    if place is not None and place[0] > 0:
        yield
        return
    made = [there for there in (folder, *folder.parents) if not there.exists()]
    log, kept = Path(os.path.realpath(folder / LOG)), _kept(folder)
    before = log.stat() if log.exists() else None
    try:
        yield
    except BaseException:
        if _kept(folder) == kept:
            _let_go(log)
            with suppress(OSError):  # it is gone, not ours, or in use
                _put_back(log, before)
        for there in made:
            with suppress(OSError):  # there is something in it
                there.rmdir()
        raise


def _put_back(log: Path, before: os.stat_result | None) -> None:
    """Shorten `log` to what it was, or remove it. Raises OSError: nobody may, or another training has it open."""
    with log.open("r+b") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        now = os.fstat(file.fileno())
        if before is not None:
            if os.path.samestat(before, now) and now.st_size > before.st_size:
                file.truncate(before.st_size)
            return
        if fcntl is not None:
            log.unlink()
    if fcntl is None:
        log.unlink()


def _kept(folder: Path) -> dict[Path, tuple[int, int]]:
    """Bytes and time of change of every file in `folder` and below, but for its log."""
    found = {}
    for path in folder.rglob("*"):
        with suppress(OSError):  # it has just gone
            state = path.stat()
            if path.is_file() and path != folder / LOG:
                found[path] = state.st_size, state.st_mtime_ns
    return found


def _let_go(log: Path) -> None:
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, logging.FileHandler) and Path(os.path.realpath(handler.baseFilename)) == log:
            root.removeHandler(handler)
            handler.close()


class _Once(logging.Filter):
    """Lets lines that begin so through once each: every film of a training makes a sampler anew."""

    def __init__(self, start: str) -> None:
        super().__init__()
        self._start, self._said = start, set[str]()

    def filter(self, record: logging.LogRecord) -> bool:
        line = record.getMessage()
        known = line in self._said
        self._said.add(line if line.startswith(self._start) else "")
        return not known


class Journal:
    """Appends every report of a run to a file of JSON lines; a report of a step that is there already comes again."""

    def __init__(self, path: Path, wandb: str | None = None) -> None:
        """wandb: project there. Raises GroundedError where the package is missing."""
        self.path, self._wandb = path, None
        if wandb is not None:
            try:
                import wandb as package  # pyright: ignore[reportMissingImports]
            except ModuleNotFoundError as error:
                raise GroundedError(
                    "--wandb needs the package wandb", "pip install wandb, or leave it away"
                ) from error
            path.parent.mkdir(parents=True, exist_ok=True)
            self._wandb = package.init(project=wandb, dir=str(path.parent))

    def __call__(self, step: int, means: Mapping[str, float]) -> None:
        """One report: as `loop.Run` gives it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **means}) + "\n")
        if self._wandb is not None:
            self._wandb.log(dict(means), step=step)
