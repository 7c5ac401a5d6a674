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

import contextlib
import hashlib
import logging
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import GroundedError, TakeError, reason
from ..files.atomic import beside, make_folder, on_disk, sync_file, sync_folder, write_atomic
from ..words import is_text
from . import own
from .bare import is_bare, remove_bare
from .journal import Journal, Record, scan_journal
from .lock import Lock
from .run import Run, numbered, runs_in
from .states import STATES_FOLDER

if TYPE_CHECKING:
    from torch import Tensor

    from .reuse import Reuse

log = logging.getLogger("grounded")

TRIES = 100
"""To lock a folder that others make and remove."""


class RunWriter:
    """The one writer of a run that is being made."""

    def __init__(self, run: Run, timeline: str, settings: dict[str, Any], goes_on: bool = False) -> None:
        """Fill a run folder in which nothing is made yet, or go on with a run that was stopped; `settings` is JSON.

        goes_on: a line of its journal that a kill tore is cut off.

        Raises TakeError, ResourceError: the run cannot be read or written.
        """
        run.note(timeline, settings)
        with on_disk(run.folder, "going on with the run" if goes_on else "starting the run"):
            run.latents(0).parent.mkdir(exist_ok=True)
            keep = scan_journal(run.journal).size if goes_on else None
        # Last: a run without a journal holds nothing that is believed.
        self.run, self._journal = run, Journal(run.journal, keep)

    def save_latents(self, index: int, latents: Tensor) -> str:
        """Store the clean latents [f c h w] of a chunk, in the dtype given; returns the file's SHA-256."""
        from safetensors.torch import save

        path = self.run.latents(index)
        # Bytes first: safetensors' own file writer hides what the operating system said.
        data = save({"latents": latents.detach().cpu().contiguous()})
        with on_disk(path, f"saving the latents of chunk {index}"):
            write_atomic(path, lambda part: part.write_bytes(data))
        return hashlib.sha256(data).hexdigest()

    def commit(self, *records: Record) -> None:
        """Append lines to the journal; on return they are on disk."""
        self._journal.append(*records)

    def take_over(self, reuse: Reuse) -> None:
        """Bring in what `reuse` found, in the order of a commit, so that a kill in between does no harm.

        The run is new, or the one that `reuse` goes on with: then only latents of other runs are added.

        Raises TakeError, ResourceError: the run cannot be written.
        """
        run, source = self.run, reuse.source
        with on_disk(run.folder, "taking over what was made before"):
            kept = [(index, kept) for index, kept in enumerate(reuse.chunks) if kept is not None]
            _link_all([(k.run.latents(k.record["index"]), run.latents(index)) for index, k in kept])
            # The names; what lies under them was pushed down when it was written, or copied.
            sync_folder(run.latents(0).parent)
            if source is not None and not reuse.goes_on:
                end = reuse.film[-1]["film_bytes"]
                shutil.copyfile(source.film, run.film)
                # Cut behind the last chunk that is taken over: new fragments are appended there.
                if run.film.stat().st_size < end:
                    raise OSError(f"{source.film} became shorter while it was read")
                os.truncate(run.film, end)
                sync_file(run.film)
                sync_folder(run.folder)
                self.commit(*_taken_over(reuse, source.folder.name))

    def close(self) -> None:
        """Close the journal; may be called twice."""
        self._journal.close()


def _taken_over(reuse: Reuse, source: str) -> list[Record]:
    """Journal lines of the chunks whose pictures are in the copied film: those of `source`, but for the latents."""
    lines: list[Record] = []
    for record, kept in zip(reuse.film, reuse.chunks):
        # The sum of the file that was linked, which may be another run's than the pictures.
        latents = record["latents"] if kept is None else kept.record["latents"]
        lines.append({**record, "latents": latents, "from": source})
    return lines


def _link_all(pairs: Iterable[tuple[Path, Path]]) -> None:
    """Give each first file the second name as well; a file of an unfinished commit there is replaced."""
    copying = False
    for source, target in pairs:
        if source == target:
            continue
        with beside(target) as part:
            try:
                if not copying:
                    os.link(source, part)
            except OSError as error:
                log.info("latents are copied, this disk makes no hard links: %s", reason(error))
                copying = True
            if copying:
                shutil.copyfile(source, part)
                sync_file(part)
            os.replace(part, target)  # does nothing where both are names of one file


class Take:
    """A film's folder, held by this process from `open` to `close`. A context manager."""

    def __init__(self, folder: Path, lock: Lock, made: Sequence[Path] = ()) -> None:
        self.folder = folder
        self.states = folder / STATES_FOLDER
        self._lock, self._made = lock, made

    @classmethod
    def open(cls, folder: str | Path) -> Take:
        """Make the folder if needed and take hold of it.

        Raises InUseError: another process is rendering into it. TakeError: it cannot be made or written.
        """
        folder = Path(folder)
        if not is_text(os.path.abspath(folder)):
            fix = "choose another name for the Take, or another place"
            raise TakeError(f"the path of the Take, {folder}, is not text in UTF-8", fix)
        with on_disk(folder, "opening the Take"):
            made, lock = _held(folder)
        take = cls(folder, lock, made)
        try:
            with on_disk(folder, "looking into the Take"):
                runs = [run.folder for run in take.runs()]
                inside = (run / "latents" for run in runs)
                if lock.sure:  # what is half-written in here belongs to nobody any more
                    own.sweep([take.states, *own.segments(folder), *runs, *inside])
        except GroundedError:  # a folder in it may not be listed
            take._lock.release()
            raise
        return take

    @property
    def mark(self) -> str:
        """As of `Lock`: in names beside a film of what is half-written, which the next owner writes anew."""
        return self._lock.mark

    def runs(self) -> list[Run]:
        """Every run so far, oldest first; whole, cancelled and killed ones alike."""
        return runs_in(self.folder)

    def begin(self, timeline: str, settings: dict[str, Any]) -> RunWriter:
        """Start the next run: a new numbered folder, with the storyboard's text and what decides the pixels.

        Where the newest run was stopped before anything was made, it begins again in that one's folder.

        Raises TakeError, ResourceError: the folder cannot be written.
        """
        with on_disk(self.folder, "starting a run"):
            # Whatever is called like a run counts, so that nothing lies where the new one goes.
            last, folder = max(numbered(self.folder), default=(0, self.folder))
            if last > 0 and self._lock.sure and is_bare(Run(folder)):
                for path in (Run(folder).journal, Run(folder).report):
                    path.unlink(missing_ok=True)
            else:
                folder = self.folder / f"run-{last + 1:04d}"
                folder.mkdir()
                sync_folder(self.folder)
        return RunWriter(Run(folder), timeline, settings)

    def close(self) -> None:
        """Let other processes use the folder; may be called twice. A run in which nothing was made goes again, and so
        does the folder."""
        if self._lock.held and self._lock.sure:
            with contextlib.suppress(TakeError):  # one that cannot be listed is as it was
                remove_bare(self.runs())
        if self._lock.held and {path.name for path in self.folder.glob("*")} == {self._lock.path.name}:
            # Somebody else may have put something there meanwhile.
            with contextlib.suppress(OSError):
                try:
                    # Still held: who has opened it by now finds it nameless and begins again (`_held`).
                    self._lock.path.unlink()
                except PermissionError:  # Windows keeps what is open, so that who opens it now keeps it
                    self._lock.release()
                    self._lock.path.unlink()
                for folder in self._made or [self.folder]:
                    folder.rmdir()
        self._lock.release()

    def __enter__(self) -> Take:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _held(folder: Path) -> tuple[list[Path], Lock]:
    """Make the folder of a Take and lock it; again where a process that leaves is just removing both."""
    tries = TRIES
    while True:
        try:
            return make_folder(folder), Lock(folder / "lock")
        except (FileExistsError, FileNotFoundError) as error:
            if os.path.lexists(folder) and not folder.is_dir():
                raise TakeError(
                    f"{folder} is a file, not a folder", "choose another name for the Take"
                ) from error
            tries -= 1
            if not tries:
                raise
