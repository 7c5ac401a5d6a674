"""A run in which nothing was made: stopped before its first chunk, or as it was begun."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from ..errors import GroundedError, reason
from ..files.atomic import sync_folder
from . import own
from .journal import scan_journal
from .run import Run, is_whole

log = logging.getLogger("grounded")


def is_bare(run: Run) -> bool:
    """Whether nothing lies in it but what a render writes that makes no chunk."""
    latents = run.latents(0).parent
    fine: dict[Path, Callable[[Path], bool]] = {
        run.timeline: own.is_file,
        run.settings: own.is_file,
        run.report: own.is_file,
        run.film: lambda path: own.is_file(path) and not path.stat().st_size,
        run.journal: _tells_nothing,
        latents: lambda path: own.is_folder(path) and not own.listed(path),
    }
    there = own.listed(run.folder) if own.is_folder(run.folder) else [run.folder]
    return all(path in fine and fine[path](path) for path in there) and run.stands_alone()


def _tells_nothing(journal: Path) -> bool:
    """No chunk, nor anything that cannot be read: at most that the run was stopped."""
    if not own.is_file(journal):
        return False
    scan = scan_journal(journal)
    stops = (is_whole(line) and line["kind"] == "end" and line["cancelled"] for line in scan.records)
    return scan.bad_line is None and all(stops)


def remove_bare(runs: list[Run]) -> None:
    """Remove the newest of a Take's `runs` as far as they are bare; the Take is held. What cannot be removed stays."""
    for run in reversed(runs):
        try:
            if not is_bare(run):
                return
            # The journal first: a kill in between leaves a run that is bare as well.
            for path in (run.journal, run.report, run.film, run.settings, run.timeline):
                path.unlink(missing_ok=True)
            if own.is_folder(run.latents(0).parent):
                run.latents(0).parent.rmdir()
            run.folder.rmdir()
            sync_folder(run.folder.parent)
        except (OSError, GroundedError) as error:
            log.info("%s, in which nothing was made, stays: %s", run.folder, reason(error))
            return
