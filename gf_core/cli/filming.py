"""One film of many: what is to be made, how far it is, and the making itself, in whatever process."""

from __future__ import annotations

import logging
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..engine.events import ChunkDone, Event, StepDone
from ..engine.recorded import read_recorded, read_timeline
from ..engine.render import render_settled
from ..errors import GroundedError, InUseError, reason
from ..files.atomic import shortened
from ..files.listing import inside
from ..files.names import LONGEST
from ..take.folder import Take
from ..team import Team
from ..words import plain
from .asked import Asked
from .files import named, read_board
from .opening import open_film

log = logging.getLogger("grounded")


@dataclass(frozen=True)
class Job:
    """One film that is to be made."""

    args: Namespace
    """As of `grounded render`, its paths absolute."""
    out: Path
    take: Path

    @property
    def name(self) -> str:
        """What its row in the table is called."""
        return plain(self.out.stem)


@dataclass(frozen=True)
class State:
    """How far a film is."""

    kind: Literal["waiting", "making", "done", "there", "failed", "held", "stopped"]
    """held: another process is rendering into its Take."""
    share: float = 0.0
    """Of the film that is made, 0 to 1."""
    left: float = 0.0
    """Seconds until it is done, as far as that can be told; 0 otherwise."""
    words: str = ""
    """Where the film is, or what went wrong."""

    @property
    def over(self) -> bool:
        """Nothing more comes of it in this run."""
        return self.kind in ("done", "there", "failed", "held")


Tell = Callable[[int, State], None]
"""Called with a film's number and how far it is."""


def made_before(job: Job, asked: Asked) -> Path | None:
    """The film of this very storyboard and these options, where it lies as it would be called; None: there is none.

    Raises GroundedError: the folder of films cannot be listed.
    """
    out = job.out
    try:
        text, board = read_board(job.args)
    except GroundedError:  # said when it is made
        return None
    # A long name is cut to make room for the number.
    alike = shortened(f"{out.stem}-", LONGEST - len("-00000") - len(out.suffix))
    others = [path for path in inside(out.parent) if path.name.startswith(alike) and path != out]
    found = (out, *(path for path in others if path.suffix == out.suffix))
    return next((path for path in found if path.is_file() and _is_of(path, text, board.fps, asked)), None)


def _is_of(path: Path, text: str, fps: float, asked: Asked) -> bool:
    try:
        if read_timeline(path) != text:
            return False
        other = asked.other(read_recorded(path), fps)
    except GroundedError:  # no film of ours, or options that are refused when it is made
        return False
    if other:
        log.info("%s was made with another %s: made again", path, ", ".join(other))
    return not other


def make(job: Job, tell: Callable[[State], None], team: Team | None = None) -> State:
    """Make or go on with one film; what goes wrong with it is in the state. team: the ranks that make it."""

    def listen(event: Event) -> None:
        if isinstance(event, StepDone | ChunkDone):
            tell(State("making", event.share, getattr(event, "seconds_left", 0.0)))

    try:
        job.out.parent.mkdir(parents=True, exist_ok=True)
        Take.open(job.take).close()  # whether it is to be had, before a model is opened for minutes
        with named(job.args):
            film = open_film(job.args, team)
            made = render_settled(
                film, job.out, take_folder=job.take, sheet=not job.args.no_sheet, listener=listen
            )
    except InUseError as error:
        return State("held", words=f"{error.message}; fix: run the same again when that has ended")
    except (GroundedError, OSError) as error:
        return State("failed", words=error.row if isinstance(error, GroundedError) else reason(error))
    except Exception as error:  # one film's trouble is not another's
        log.exception("%s", job.name)
        return State("failed", words=f"{type(error).__name__}: {error}")
    return State("done", 1.0, words=str(made.path))


def make_here(jobs: dict[int, Job], tell: Tell, team: Team | None = None) -> None:
    """One film after the other, in this process; at the end those again that were held by another."""
    held = dict[int, Job]()

    def film(number: int, job: Job) -> None:
        tell(number, State("making"))
        state = make(job, lambda state: tell(number, state), team)
        tell(number, state)
        if state.kind == "held":
            held[number] = job

    for number, job in jobs.items():
        film(number, job)
    for number, job in list(held.items()):  # which has made most of them by now, or left them
        film(number, job)
