"""A Take: one film's folder on disk. Each render is a numbered run in it, and nothing is ever overwritten.

    <take>/
      lock                     held by the process that is rendering
      run-0001/
        timeline.txt           the storyboard as it was rendered
        settings.json          what decides the pixels: fingerprints, size, memory, sampler, seeds, keys
        latents/000000.safetensors ...
        film.mp4               fragmented; grows by one fragment per chunk and plays at any moment
        journal.jsonl          one line per committed chunk, with its key
        report.json            written at the end
      states/                  what sampler and decoder go on from, for all runs (states.py)

The order of a chunk's commit is latents, film, journal line: a line promises that the other two are there. The key in
each line names everything that made the chunk, so a chunk of an earlier run with the same key holds the same latents.
A run that was stopped goes on where it stopped; a changed storyboard starts a new run, which takes over every chunk in
front of the change (reuse.py).
"""

from __future__ import annotations

import hashlib
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import TakeError
from ..files.atomic import disk_error, sync_folder, write_atomic, write_json, write_text
from .journal import Journal, Record, read_journal, scan_journal
from .lock import Lock

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("grounded")
_RUN = re.compile(r"run-(\d{4,})")


class Run:
    """The folder of one render: paths, and how its parts are read back. See the module for the layout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.film = folder / "film.mp4"
        self.journal = folder / "journal.jsonl"
        self.timeline = folder / "timeline.txt"
        self.settings = folder / "settings.json"
        self.report = folder / "report.json"

    def latents(self, index: int) -> Path:
        """File of the clean latents of chunk `index`."""
        return self.folder / "latents" / f"{index:06d}.safetensors"

    def records(self) -> list[Record]:
        """The journal's records, a torn last line dropped."""
        return read_journal(self.journal)

    def committed(self) -> list[Record]:
        """Records of committed chunks, in film order."""
        return [record for record in self.records() if record["kind"] == "chunk"]

    def load_latents(self, index: int) -> Tensor:
        """Clean latents [f c h w] of a committed chunk, on the CPU.

        Raises:
            TakeError: the file is missing or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(self.latents(index))["latents"]
        except (OSError, SafetensorError, KeyError) as error:
            raise TakeError(
                f"the latents of chunk {index} in {self.folder} cannot be read: {error}",
                "the file was removed or damaged: render the film again",
            ) from error


def runs_in(take: Path) -> list[Run]:
    """Every run in a Take's folder, oldest first; none where there is no such folder."""
    if not take.is_dir():
        return []
    numbered = [(int(m[1]), path) for path in take.iterdir() if (m := _RUN.fullmatch(path.name))]
    return [Run(path) for _, path in sorted(numbered)]


def _sweep(take: Path) -> None:
    """Remove what a killed render left half-written; a state can be gigabytes. Call it with the lock held."""
    for pattern in ("states/*.part", "run-*/*.part", "run-*/latents/*.part"):
        for path in take.glob(pattern):
            try:
                path.unlink()
            except OSError as error:
                log.info("%s is left over and cannot be removed: %s", path, error)


class RunWriter:
    """The one writer of a run that is being made."""

    def __init__(self, run: Run, journal: Journal) -> None:
        self.run, self._journal = run, journal

    @classmethod
    def begin(cls, run: Run, timeline: str, settings: dict[str, Any]) -> RunWriter:
        """Fill a new, empty run folder; `settings` is JSON.

        Raises:
            TakeError, ResourceError: the folder cannot be written.
        """
        try:
            run.latents(0).parent.mkdir()
            write_text(run.timeline, timeline)
            write_json(run.settings, settings)
        except OSError as error:
            raise disk_error(error, run.folder, "starting the run") from error
        return cls(run, Journal(run.journal))

    @classmethod
    def resume(cls, run: Run) -> RunWriter:
        """Go on with a run that was stopped; a line of its journal that a kill tore is cut off.

        Raises:
            TakeError, ResourceError: the run cannot be read or written.
        """
        try:
            return cls(run, Journal(run.journal, keep=scan_journal(run.journal).size))
        except OSError as error:
            raise disk_error(error, run.folder, "going on with the run") from error

    def save_latents(self, index: int, latents: Tensor) -> str:
        """Store the clean latents [f c h w] of a chunk, in the dtype given; returns the file's SHA-256."""
        from safetensors.torch import save

        path = self.run.latents(index)
        # Bytes first: safetensors' own file writer hides what the operating system said.
        data = save({"latents": latents.detach().cpu().contiguous()})
        try:
            write_atomic(path, lambda part: part.write_bytes(data))
        except OSError as error:
            raise disk_error(error, path, f"saving the latents of chunk {index}") from error
        return hashlib.sha256(data).hexdigest()

    def commit(self, *records: Record) -> None:
        """Append lines to the journal; on return they are on disk."""
        self._journal.append(*records)

    def save_report(self, report: dict[str, Any]) -> None:
        """Write `report.json`."""
        save_report(self.run, report)

    def close(self) -> None:
        """Close the journal; may be called twice."""
        self._journal.close()


def save_report(run: Run, report: dict[str, Any]) -> None:
    """Write `report.json` into a run of a Take that is held.

    Raises:
        TakeError, ResourceError: it cannot be written.
    """
    try:
        write_json(run.report, report)
    except OSError as error:
        raise disk_error(error, run.report, "writing the report") from error


class Take:
    """A film's folder, held by this process from `open` to `close`. A context manager."""

    def __init__(self, folder: Path, lock: Lock) -> None:
        self.folder = folder
        self.states = folder / "states"
        self._lock = lock

    @classmethod
    def open(cls, folder: str | Path) -> Take:
        """Make the folder if needed and take hold of it.

        Raises:
            TakeError: another process is rendering into it, or it cannot be made or written.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise TakeError(
                f"{folder} is a file, not a folder", "choose another name for the Take"
            ) from error
        except OSError as error:
            raise disk_error(error, folder, "making the Take's folder") from error
        take = cls(folder, Lock(folder / "lock"))
        _sweep(folder)
        return take

    def runs(self) -> list[Run]:
        """Every run so far, oldest first; whole, cancelled and killed ones alike."""
        return runs_in(self.folder)

    def begin(self, timeline: str, settings: dict[str, Any]) -> RunWriter:
        """Start the next run: a new numbered folder, with the storyboard's text and what decides the pixels.

        Raises:
            TakeError, ResourceError: the folder cannot be written.
        """
        try:
            last = max((int(_RUN.fullmatch(run.folder.name)[1]) for run in self.runs()), default=0)  # type: ignore[index]
            folder = self.folder / f"run-{last + 1:04d}"
            folder.mkdir()
            sync_folder(self.folder)
        except OSError as error:
            raise disk_error(error, self.folder, "starting a run") from error
        return RunWriter.begin(Run(folder), timeline, settings)

    def close(self) -> None:
        """Let other processes use the folder; may be called twice. One in which nothing was made goes again."""
        if self._lock.held and {path.name for path in self.folder.glob("*")} == {self._lock.path.name}:
            self._lock.path.unlink()
            self.folder.rmdir()
        self._lock.release()

    def __enter__(self) -> Take:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
