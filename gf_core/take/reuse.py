"""What of a film lies in its Take already: found by the keys of its chunks, and checked before it is believed.

Two things are found, because latents and pictures depend on different ones. Latents are those of chunks whose keys some
run has, checked by their SHA-256; pictures are those of the first m chunks, in a film that was decoded and encoded with
the settings now asked for, each fragment checked by its sum in the journal. The film goes on behind the last chunk of
either. In front of that, chunks without whole latents may lie: only these are sampled again. Where a finished film has
no latents any more at all, they were removed to make room: it is believed as it is.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from ..errors import TakeError, reason
from . import own
from .changed import Settings, same_segments, unlike, what_changed
from .journal import Record, scan_journal
from .run import Run, is_whole, runs_in

log = logging.getLogger("grounded")


@dataclass(frozen=True)
class Kept:
    """A chunk whose latents are in a run of the Take, checked."""

    run: Run
    record: Record


@dataclass(frozen=True)
class Reuse:
    """What need not be made again."""

    chunks: tuple[Kept | None, ...] = ()
    """Chunks with latents, from the film's first to the one behind which it goes on; None where they are damaged or
    gone, though what comes behind is there."""
    film: tuple[Record, ...] = ()
    """Journal lines of the first chunks, whose pictures are in the film of `source`."""
    source: Run | None = None
    """The run whose film begins with these pictures."""
    goes_on: bool = False
    """`source` itself is the run to continue: it was stopped, and nothing else has changed."""
    finished: bool = False
    """The film of `source` is the whole one that is asked for."""
    changed: str = ""
    """Why the rest has to be made, in words."""
    digests: dict[str, str] = field(default_factory=dict)
    """Name of a state -> its digest, as the earlier runs recorded it."""

    @property
    def decoded(self) -> int:
        """How many chunks have their pictures in the film of `source`."""
        return len(self.film)

    @property
    def holes(self) -> list[int]:
        """Chunks in front of where the film goes on whose latents are not there."""
        return [index for index, kept in enumerate(self.chunks) if kept is None]

    @property
    def anchors(self) -> list[Any]:
        """The memory's evaluations in these chunks."""
        known = [kept.record for kept in self.chunks[len(self.film) :] if kept is not None]
        return [record["anchor"] for record in (*self.film, *known) if record["anchor"]]

    @property
    def frames(self) -> int:
        """Pictures in the film prefix that is taken over."""
        return sum(record["frames"] for record in self.film)

    def without_film(self) -> Reuse:
        """The same, where the film cannot be gone on with: its pictures are made of latents again."""
        return replace(self, film=(), source=None, goes_on=False, finished=False)


@dataclass(frozen=True)
class _Earlier:
    """An earlier run as far as it can be trusted."""

    run: Run
    settings: Settings
    """Empty where they cannot be trusted: then latents are known by their chunks' keys, and pictures are not."""
    records: list[Record]
    """Chunks from the film's first on."""
    sampled: list[Record]
    """Other chunks that have latents: the render was stopped before it came to them, or a line in front is damaged."""
    states: list[Record]
    whole: bool
    """Nothing of it is damaged but a journal's line torn by a kill: it may be gone on with."""
    ended: bool
    """It got to the end that was asked for."""

    def matching(self, keys: Sequence[str]) -> int:
        """How many leading chunks have these keys."""
        return sum(takewhile(bool, (record["key"] == key for record, key in zip(self.records, keys))))


def find_reuse(
    take: Path,
    settings: Settings,
    keys: Sequence[str],
    ends: Sequence[int] = (),
    apart: Collection[int] = (),
) -> Reuse:
    """Search every run of the Take in folder `take` for the chunks with `keys`, those of the film to be made, in order.

    settings: the `settings.json` of that film. ends: numbers of chunks after which sampling can go on; () is any.
    apart: chunks that are decoded without the pictures in front of them.
    """
    runs = [earlier for run in reversed(runs_in(take)) if (earlier := _open(run)) is not None]
    if not runs:
        return Reuse()
    # A chunk's key names all that made its latents, whatever the settings say. The longest first, so that latents and
    # pictures of one run are preferred; of equals the one with most of the segments, against which the change is told.
    # Sorting keeps newer runs in front.
    runs.sort(
        key=lambda e: (
            -e.matching(keys),
            e.settings.get("film_key") != settings["film_key"],
            -same_segments(e.settings, settings),
        )
    )
    # A run of this very film goes first, stopped or finished: only it can be gone on with in place.
    runs.sort(key=lambda e: not _is_same_film(e, settings, keys))
    # Latents may come from several runs, pictures from one film only; both are read and checked here.
    film, pictures = _longest_film([e for e in runs if _looks_alike(e, settings)], keys, apart)
    chunks = _collect(runs, keys, pictures)
    goes_on, finished = False, False
    if film and _is_same_film(film, settings, keys) and _is_its_own(film, chunks, pictures):
        finished = pictures == len(keys) and _is_finished(film, chunks)
        goes_on = finished or film.run.stands_alone()
    if ends and not finished:  # up to the last such end with no damaged chunk in front of it
        whole = next((index for index, kept in enumerate(chunks) if kept is None), len(chunks))
        chunks = chunks[: max((end for end in ends if end <= whole), default=0)]
        # Pictures behind that end cannot be taken out of a film, so a run that has them is not gone on with.
        pictures, goes_on = min(pictures, len(chunks)), goes_on and pictures <= len(chunks)
        film = film if pictures else None
    # Against which run the change is told: the one that the last chunk came from, or where nothing fits the most alike.
    last = chunks[-1].run if chunks and chunks[-1] else None
    nearest = film or min(runs, key=lambda e: unlike(e.settings, settings))
    nearest = next((e for e in runs if e.run is last), nearest)
    return Reuse(
        chunks=chunks,
        film=tuple(film.records[:pictures]) if film else (),
        source=film.run if film else None,
        goes_on=goes_on,
        finished=finished,
        changed=_why_more(nearest, settings, len(chunks), pictures, len(keys), apart),
        digests={record["name"]: record["digest"] for earlier in runs for record in earlier.states},
    )


def _open(run: Run) -> _Earlier | None:
    """What can be trusted of a run; None, with a line in the log, when it cannot be read, or is of another version."""
    name = run.folder.name
    try:
        scan = scan_journal(run.journal)
        lines = [*scan.records, *scan.later]
        if not all(map(is_whole, lines)):
            raise ValueError("it was made by another version")
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.info("%s holds nothing to reuse: %s", name, reason(error))
        return None
    try:
        settings = run.read_settings()
    except TakeError as error:
        log.info("%s: its film is not reused, and its latents by their keys alone: %s", name, error.message)
        settings = {}
    if scan.bad_line is not None:
        log.warning("journal of %s: line %d is damaged and dropped", name, scan.bad_line)
    chunks = [record for record in scan.records if record["kind"] == "chunk"]
    # From the first gap on no chunk stands at its number: these are among the others.
    in_order = [record for index, record in enumerate(chunks) if record["index"] == index]
    others = [line for line in lines if line["kind"] in ("chunk", "latents") and line not in in_order]
    return _Earlier(
        run=run,
        settings=settings,
        records=in_order,
        sampled=others,
        states=[line for line in lines if line["kind"] == "state"],
        whole=(scan.bad_line is None or scan.torn) and len(in_order) == len(chunks) and run.writable(),
        ended=scan.ended,
    )


def _looks_alike(earlier: _Earlier, settings: Settings) -> bool:
    """Whether the pictures of a run are encoded as they are asked for; its journal says so too, but for older ones."""
    decided, mark = ("film_key", "pictures_key"), pictures_mark(settings)
    if not earlier.settings or any(earlier.settings[key] != settings[key] for key in decided):
        return False
    return all(record.get("pictures", mark) == mark for record in earlier.records)


def pictures_mark(settings: Settings) -> str:
    """What a journal's line says about how its chunk's pictures are encoded."""
    return settings["pictures_key"][:16]


def _is_same_film(earlier: _Earlier, settings: Settings, keys: Sequence[str]) -> bool:
    """Whether a run was begun for the very film that is asked for, and holds no more than is wanted of it."""
    if not (earlier.whole and _looks_alike(earlier, settings)):
        return False
    segments = [[segment["key"] for segment in s["segments"]] for s in (earlier.settings, settings)]
    return segments[0] == segments[1] and earlier.matching(keys) == len(earlier.records) <= len(keys)


def _is_its_own(film: _Earlier, chunks: Sequence[Kept | None], pictures: int) -> bool:
    """Whether all that a run's journal speaks of is whole and lies in it: else a new run takes over from it."""
    own = all(kept is None or kept.run is film.run for kept in chunks[:pictures])
    return own and pictures == len(film.records)


def _is_finished(film: _Earlier, chunks: Sequence[Kept | None]) -> bool:
    """Whether a film whose chunks are all there came to its end; one without any latents is believed as it is."""
    sampled = None not in chunks or not any(chunks)
    return film.ended and sampled and film.run.film.stat().st_size == film.records[-1]["film_bytes"]


def _collect(runs: Sequence[_Earlier], keys: Sequence[str], pictures: int) -> tuple[Kept | None, ...]:
    """Chunks up to the last one that has whole latents or (of the first `pictures`) pictures; earlier ones of `runs`
    are preferred."""
    by_key: dict[str, list[Kept]] = {}
    for earlier in runs:
        for record in (*earlier.records, *earlier.sampled):
            by_key.setdefault(record["key"], []).append(Kept(earlier.run, record))
    chunks: list[Kept | None] = []
    dropped: list[str] = []
    for key in keys:
        for kept in by_key.get(key, ()):
            if not (why := _why_not(kept)):
                chunks.append(kept)
                break
            dropped.append(f"chunk {kept.record['index']} in {kept.run.folder.name}: {why}")
        else:
            chunks.append(None)
    if dropped:
        more = f" (and {len(dropped) - 1} more)" if len(dropped) > 1 else ""
        log.warning("latents dropped: %s%s", dropped[0], more)
    end = max((index + 1 for index, kept in enumerate(chunks) if kept is not None), default=0)
    return tuple(chunks[: max(end, pictures)])


def _why_not(kept: Kept) -> str:
    """Why its latents cannot be believed; empty where they can."""
    try:
        data = own.read_file(kept.run.latents(kept.record["index"]))
    except OSError as error:
        return reason(error)
    return "" if hashlib.sha256(data).hexdigest() == kept.record["latents"] else "its bytes have changed"


def _longest_film(
    runs: Sequence[_Earlier], keys: Sequence[str], apart: Collection[int]
) -> tuple[_Earlier | None, int]:
    """The run whose film holds the most of the first chunks, and how many; the first of equals."""
    best: tuple[_Earlier | None, int] = (None, 0)
    for earlier in runs:
        wanted = min(earlier.matching(keys), _decoded_alike(earlier, apart))
        # Checking reads the film: only where it may hold more than the best so far.
        if wanted > best[1]:
            count = _film_chunks(earlier.run, earlier.records[:wanted])
            if count > best[1]:
                best = earlier, count
    return best


def _decoded_alike(earlier: _Earlier, apart: Collection[int]) -> int:
    """How many leading chunks were decoded with, or without, what lies in front of them as it is done now.

    Earlier versions knew no chunks apart. Theirs that have no latents any more are believed as they are.
    """
    alike = (
        record.get("apart", False) == (index in apart) or not os.path.lexists(earlier.run.latents(index))
        for index, record in enumerate(earlier.records)
    )
    return sum(takewhile(bool, alike))


def _film_chunks(run: Run, records: Sequence[Record]) -> int:
    """How many of these chunks lie in the film to the byte, the header in front of the first one included."""
    if not os.path.lexists(run.film):  # an old one that made room
        return 0
    if records and "film_sum" not in records[0]:
        log.info(
            "%s was made before films had sums: its film is made again of its latents, once", run.folder.name
        )
        return 0
    try:
        count = run.pictures(records)
    except OSError as error:
        log.warning("film %s cannot be read: %s", run.film, reason(error))
        return 0
    if count < len(records):
        log.warning("film %s is damaged after chunk %d: the rest is encoded again", run.film, count)
    return count


def _why_more(
    nearest: _Earlier, settings: Settings, chunks: int, pictures: int, wanted: int, apart: Collection[int]
) -> str:
    """Why only `chunks` of `wanted` chunks (and pictures of `pictures`) could be taken over; empty when all is there,
    or nothing was made yet.

    nearest: the earlier run that the change is told against. settings, apart: of the film to be made.
    """
    lost = "what an earlier run kept is damaged or gone"
    if min(chunks, pictures) == wanted:
        return ""
    if not nearest.settings:
        return lost
    if pictures < chunks and pictures == _decoded_alike(nearest, apart) < len(nearest.records):
        return "an earlier version let the shot before show through here: pictures are made again"
    damaged = not nearest.whole or (nearest.ended and len(nearest.records) >= wanted)
    changed = what_changed(nearest.settings, settings, latents=chunks < wanted)
    if not changed and damaged and chunks == wanted:
        return "pictures are made again: the film of an earlier run is damaged, or was removed to make room"
    rest = "the rest was not made yet" if chunks else ""  # of nothing there is no rest
    return changed or (lost if damaged else rest)
