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
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import TakeError
from ..files.atomic import beside, disk_error, sync_file, sync_folder, write_atomic, write_json, write_text
from ..foreign import read_json
from ..video.boxes import read_layout
from .journal import Journal, Record, read_journal, scan_journal
from .lock import Lock

if TYPE_CHECKING:
    from torch import Tensor

    from .reuse import Kept, Reuse

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

    def read_settings(self) -> dict[str, Any]:
        """What `settings.json` holds.

        Raises:
            TakeError: the file is missing or damaged.
        """
        try:
            found = read_json(self.settings.read_bytes())
            if not isinstance(found, dict):
                raise ValueError("it holds no settings")
        except (OSError, ValueError) as error:
            raise TakeError(
                f"the settings of {self.folder} cannot be read: {error}", "render again"
            ) from error
        return found

    def save_report(self, report: dict[str, Any]) -> None:
        """Write `report.json`; the Take is held.

        Raises:
            TakeError, ResourceError: it cannot be written.
        """
        try:
            write_json(self.report, report)
        except OSError as error:
            raise disk_error(error, self.report, "writing the report") from error

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

    def take_over(self, reuse: Reuse) -> None:
        """Bring in what `reuse` found, in the order of a commit, so that a kill in between does no harm.

        The run is new, or the one that `reuse` goes on with: then only latents of other runs are added.

        Raises:
            TakeError, ResourceError: the run cannot be written.
        """
        run, source = self.run, reuse.source
        try:
            _link_all(
                [(k.run.latents(k.record["index"]), run.latents(i)) for i, k in enumerate(reuse.chunks)]
            )
            sync_folder(run.latents(0).parent)
            if source is not None and reuse.decoded and not reuse.goes_on:
                ends = [fragment.end for fragment in read_layout(source.film).fragments[: reuse.decoded]]
                shutil.copyfile(source.film, run.film)
                if run.film.stat().st_size < ends[-1]:
                    raise OSError(f"{source.film} became shorter while it was read")
                os.truncate(run.film, ends[-1])
                sync_file(run.film)
                sync_folder(run.folder)
                self.commit(*_taken_over(reuse.chunks, ends))
        except OSError as error:
            raise disk_error(error, run.folder, "taking over what was made before") from error

    def close(self) -> None:
        """Close the journal; may be called twice."""
        self._journal.close()


def _taken_over(chunks: Sequence[Kept], ends: list[int]) -> list[Record]:
    """Journal lines of the chunks whose pictures are in the copied film; `ends` are their last bytes there."""
    lines: list[Record] = []
    first_frame = 0
    for index, (kept, end) in enumerate(zip(chunks, ends)):
        names = ("kind", "index", "segment", "key", "frames", "latents", "anchor")
        place = {"index": index, "first_frame": first_frame, "film_bytes": end, "from": kept.run.folder.name}
        lines.append({**{name: kept.record[name] for name in names}, **place})
        first_frame += kept.record["frames"]
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
                log.info("latents are copied, this disk makes no hard links: %s", error)
                copying = True
            if copying:
                shutil.copyfile(source, part)
                sync_file(part)
            os.replace(part, target)  # does nothing where both are names of one file


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
