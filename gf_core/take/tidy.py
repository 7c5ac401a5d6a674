"""Frees disk in a Take: films of old runs go, their latents stay, so that an edit taken back is only decoded again.

The films that an artist keeps were placed elsewhere; those in the runs are copies to go on from. Never removed: the
film of the newest run, of one that is unfinished, and of a segment's take that has a name (`shelf.py`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from ..errors import reason
from ..files.atomic import on_disk
from ..words import size
from .folder import Run, Take
from .journal import scan_journal
from .own import is_file
from .shelf import named_runs

log = logging.getLogger("grounded")

FILMS = 20 * 10**9
"""Bytes of films of old runs before the oldest go by themselves."""
KEPT_FILMS = 3
"""Newest runs whose films are never removed by themselves."""


@dataclass(frozen=True)
class Tidied:
    """What was done."""

    removed: tuple[str, ...]
    """Names of the runs whose films went, oldest first."""
    freed: int
    """Bytes."""
    kept: int
    """Films that stay."""


def tidy(take: Take, keep: int = 1, limit: int = 0, using: str = "") -> Tidied:
    """Remove films of the runs of `take`, oldest first, while all its films are larger than `limit` bytes together.

    keep: runs, the newest ones beside segments' takes, whose films stay in any case; at least 1. using: a run whose
    film is in use.

    Raises TakeError: a film may not be removed, or it cannot be told which of them segments' takes are made of.
    """
    # One that was killed as it began has an empty film, and is not the newest that is meant.
    runs = [run for run in take.runs() if is_file(run.film) and run.film.stat().st_size]
    sizes = {run.folder.name: run.film.stat().st_size for run in runs}
    whole, freed, named = sum(sizes.values()), 0, named_runs(take.folder)
    removed: list[str] = []
    films = [run for run in runs if run.folder.name not in named]
    for run in films[: -max(1, keep)]:
        name = run.folder.name
        if whole - freed <= limit:
            break
        if name == using or not _is_finished(run):
            continue
        with on_disk(run.film, "removing an old film"):
            run.film.unlink()
        removed.append(name)
        freed += sizes[name]
    if removed:
        log.info("%s of old films removed from %s; their latents stay", size(freed), take.folder)
    return Tidied(tuple(removed), freed, len(runs) - len(removed))


def _is_finished(run: Run) -> bool:
    """It came to the end that was asked for; a journal that cannot be read says no."""
    try:
        return scan_journal(run.journal).ended
    except OSError as error:
        log.info("%s is left alone: %s", run.folder.name, reason(error))
        return False
