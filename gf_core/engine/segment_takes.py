"""Renders several takes of one segment: each samples that segment alone, what comes before it is used as it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ..errors import GroundedError
from ..estimate.budget import Budget
from ..take.facts import hash_facts
from ..take.folder import Take
from ..take.shelf import Alternative, Shelf, identity, propose, with_take
from .compiling import settle_pieces
from .events import Event
from .film import Film, as_path, look
from .making import check, make, preflight
from .session import Session


@dataclass(frozen=True)
class SegmentTakes:
    """Where the takes are."""

    takes: list[Alternative]
    """Name, seed and run of each."""
    clips: list[Path]
    """The segment alone, one film per take."""
    sheet: Path
    """All of them on one page."""


@dataclass(frozen=True)
class Expected:
    """What takes of a segment will cost."""

    budget: Budget
    """Of the film with the storyboard's own seed, up to the end of the segment."""
    proposed: Sequence[Alternative]
    """All takes that are asked for."""
    missing: Sequence[Alternative]
    """Those of them that are not on the shelf yet."""
    chunks: int
    """That are to be made for these, with what lies in front of the segment."""
    minutes: float | None
    """Wall minutes; None where the speed is not known."""
    disk: int
    """Bytes that must be free."""


def _expect(
    film: Film, budget: Budget, folder: Path, number: int, proposed: Sequence[Alternative], shelf: Shelf
) -> Expected:
    """The costs of all takes; `budget` is that of the storyboard's own seed, which brings what lies in front."""
    segment = next(part for part in film.plan.segments if part.index == number - 1)
    known = {take.seed for take in shelf.known}
    missing = [take for take in proposed if take.seed not in known]
    others = [take for take in missing if take.seed != segment.seed]
    first, chunks, minutes, disk = len(others) < len(missing), 0, 0.0, 0
    if first:
        chunks, minutes, disk = budget.chunks - budget.kept, budget.minutes, budget.disk.needed
    if others:
        other = preflight(look(film.retold(with_take(film.text, number, others[0])), folder, number))
        # Whichever take is made first makes what is missing in front.
        front = 0 if first else max(0, segment.first_chunk - other.kept)
        chunks += len(others) * segment.chunks + front
        disk += len(others) * other.disk.needed
        pace = other.pace
        if pace is None or minutes is None:
            minutes = None
        else:
            # Chunks in front count with as many pictures as those of the segment.
            frames = len(others) * segment.frames + front * segment.frames / segment.chunks
            minutes += (len(others) * pace.extra + frames / pace.fps) / 60
    return Expected(budget, proposed, missing, chunks, minutes, disk)


def render_each(
    shelf: Shelf,
    proposed: Sequence[Alternative],
    render: Callable[[Alternative], str | None],
    hold: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> list[Alternative]:
    """Let `render` make one after the other; then, also after a stop or an error, put what is whole on the shelf.

    render: returns the run's name, or None when it was stopped: then no more are made. hold: keeps others from the Take
    while the shelf is filled, whose half-written clips they would sweep away; not needed where the caller holds it.
    """
    done: list[Alternative] = []
    try:
        for one in proposed:
            run = render(one)
            if run is None:
                break
            done.append(replace(one, run=run))
    finally:
        if done:
            with hold():
                shelf.fill(done)
    return done


def open_shelf(
    film: Film, folder: Path, number: int, count: int, names: Sequence[str] = ()
) -> tuple[Shelf, list[Alternative]]:
    """Where the takes of segment `number` (from 1) of this film belong, and which `count` of them to render.

    Raises GroundedError children: no such segment, too many takes, names that cannot be used.
    """
    for name, value in (("segment", number), ("count", count)):
        if not isinstance(value, int):
            raise GroundedError(f"{name} is {value!r}, not a whole number", "give one, such as 4")
    made_with = hash_facts([film.key, film.prints]) if film.prints else film.key
    shelf = Shelf(folder, number, identity(film.board, number), made_with)
    return shelf, propose(film.board, number, count, names, shelf.known)


def render_takes(
    film: Film,
    folder: str | Path,
    number: int,
    count: int,
    *,
    names: Sequence[str] = (),
    listener: Callable[[Alternative, Event], None] | None = None,
    on_budget: Callable[[Expected], None] | None = None,
) -> SegmentTakes:
    """Render `count` takes of segment `number` (from 1) into the Take `folder`, with clips and a contact sheet.

    Takes that are there already are not made again, so the call after a stop goes on. `listener` gets each event with
    the take it belongs to; what it raises stops, and the takes that are whole are kept.

    Raises GroundedError children: as in `render_film`; no such segment, too many takes, names that cannot be used.
    """
    folder = as_path(folder, "folder")
    film = settle_pieces(film, folder)
    shelf, proposed = open_shelf(film, folder, number, count, names)
    with Take.open(folder) as take:
        budget = preflight(look(film, folder, number))
        if on_budget is not None:
            on_budget(_expect(film, budget, folder, number, proposed, shelf))
        check(film, budget, folder)

        def render(one: Alternative) -> str:
            nonlocal budget
            tell = None if listener is None else partial(listener, one)
            other = film.retold(with_take(film.text, number, one))
            session = Session(take, look(other, folder, number))
            end = make(session, budget, tell)
            budget = replace(budget, compiling=0.0)  # it was for all of them
            return end.path.parent.name

        done = render_each(shelf, proposed, render)
    return SegmentTakes(done, [shelf.clip(one.name) for one in done], shelf.sheet)
