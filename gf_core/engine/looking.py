"""What of a film lies in its Take: looked at once, before anything is told, estimated or made of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from ..take.reuse import Reuse, find_reuse
from .film import Film


@dataclass(frozen=True)
class Found:
    """A film that can be made, and what is there of it."""

    film: Film
    stop: int
    """Chunks that it is to have."""
    reuse: Reuse
    """What of them need not be made again."""
    seconds: float
    """That the looking took."""


def look(film: Film, folder: Path, until: int | None = None) -> Found:
    """Check the film and search the Take in `folder` for it, up to segment `until` of the storyboard (None: all of it).

    Every file that is believed is read: hold the Take open until what was found is used. `grounded plan`, which uses
    nothing, does not.

    Raises:
        GroundedError children: the film cannot be rendered, or there is nothing up to that segment.
    """
    began = time.perf_counter()
    film.check()
    stop = film.chunks_until(until)
    reuse = find_reuse(folder, film.settings, film.plan.chunk_keys[:stop])
    return Found(film, stop, reuse, time.perf_counter() - began)
