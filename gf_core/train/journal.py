"""What a run tells: lines for people, JSON lines for programs, and Weights & Biases where somebody wants it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from ..errors import GroundedError


def set_up_log(folder: Path, first: bool = True) -> None:
    """Lines on the terminal and in FOLDER/train.log. Raises GroundedError where a file is in the folder's way."""
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if first:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            there = next(place for place in (folder, *folder.parents) if place.exists())
            raise GroundedError(
                f"{there} is a file, and a run needs a folder", "name another one with --folder"
            ) from error
        handlers.append(logging.FileHandler(folder / "train.log"))
    logging.getLogger("grounded").addFilter(_Once("attention:"))
    level = logging.INFO if first else logging.WARNING
    logging.basicConfig(
        level=level, handlers=handlers, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True
    )


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
        path.parent.mkdir(parents=True, exist_ok=True)
        if wandb is not None:
            try:
                import wandb as package  # pyright: ignore[reportMissingImports]
            except ModuleNotFoundError as error:
                raise GroundedError(
                    "--wandb needs the package wandb", "pip install wandb, or leave it away"
                ) from error
            self._wandb = package.init(project=wandb, dir=str(path.parent))

    def __call__(self, step: int, means: Mapping[str, float]) -> None:
        """One report: as `loop.Run` gives it."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **means}) + "\n")
        if self._wandb is not None:
            self._wandb.log(dict(means), step=step)
