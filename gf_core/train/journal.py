"""What a run tells: lines for people, JSON lines for programs, and Weights & Biases where somebody wants it."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from logging.handlers import MemoryHandler
from pathlib import Path

from ..errors import GroundedError

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
    logging.getLogger("grounded").addFilter(_Once())
    level = logging.INFO if first else logging.WARNING
    logging.basicConfig(level=level, handlers=handlers, format=FORMAT, datefmt=TIME, force=True)


def open_log(folder: Path) -> None:
    """Make the folder; what was held, and every line from here on, goes into FOLDER/train.log, too.

    Called when there is something to keep: a training that is refused before has made nothing.
    """
    root = logging.getLogger()
    for held in [handler for handler in root.handlers if isinstance(handler, MemoryHandler)]:
        folder.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(folder / LOG)
        file.setFormatter(logging.Formatter(FORMAT, TIME))
        held.setTarget(file)
        held.close()
        root.removeHandler(held)
        root.addHandler(file)


class _Once(logging.Filter):
    """Lets lines on attention through once each: every film of a training makes a sampler anew."""

    def __init__(self) -> None:
        super().__init__()
        self._said = set[str]()

    def filter(self, record: logging.LogRecord) -> bool:
        line = record.getMessage()
        known = line in self._said
        self._said.add(line if line.startswith("attention:") else "")
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
