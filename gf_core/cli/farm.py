"""`grounded farm`: every storyboard of a folder becomes a film, one after the other here, or side by side on a cluster.

A film is a render like any other, into a Take of its own: what stops it, stops it alone, and the same command goes on.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from ..errors import REFUSED, STOPPED, GroundedError
from ..files.listing import inside
from ..team import Team
from ..words import clock, counted
from .asked import Asked
from .cluster import on_ray
from .filming import Job, State, made_before, make_here
from .screen import ProgressLine
from .several import in_team


@in_team
def farm(args: Namespace, team: Team | None) -> int:
    """Make all films and print a table of them; 2 where one failed or is another's, 130 after Ctrl-C."""
    if team is not None and args.ray is not None:
        raise GroundedError(
            "a cluster's films are not made on several ranks", "give torchrun or --ray, not both"
        )
    jobs = jobs_of(args)
    table = Table(jobs, Asked(jobs[0].args))
    try:
        with table.line.kept(table.summary):
            waiting = {number: job for number, job in enumerate(jobs) if not table.found(number)}
            if args.ray is None:
                make_here(waiting, table.tell, team)
            else:
                on_ray(args.ray, waiting, table.tell)
    except KeyboardInterrupt:
        table.stop()
        print("stopped: what is made is kept; the same command goes on", file=sys.stderr)
        return STOPPED
    finally:
        print(*table.lines(), sep="\n")
    return REFUSED if any(state.kind in ("failed", "held") for state in table.states) else 0


def jobs_of(args: Namespace) -> list[Job]:
    """The folder's storyboards by name, with where their films go.

    Raises GroundedError: there is no such folder, it cannot be listed, or no storyboard is in it.
    """
    folder = args.folder.resolve()
    if not folder.is_dir():
        raise GroundedError(f"there is no folder {args.folder}", "check the name and the path")
    boards = [path for path in inside(folder) if path.match("*.txt") and path.is_file()]
    if not boards:
        raise GroundedError(f"{args.folder} holds no storyboards (.txt)", "give a folder that does")
    out, takes = (Path(name).resolve() for name in (args.out or "films", "takes"))
    shared = {name: _absolute(name, value) for name, value in vars(args).items()}
    shared |= {"start_image": None, "start_video": None}
    return [
        Job(Namespace(**{**shared, "storyboard": str(board)}), out / f"{board.stem}.mp4", takes / board.stem)
        for board in boards
    ]


def _absolute(name: str, value: object) -> object:
    """Paths as a process elsewhere finds them; other words are left alone, whatever lies here under their names."""
    if isinstance(value, Path):
        return value.resolve()
    if name == "model" and isinstance(value, str) and value != "builtin" and Path(value).exists():
        return str(Path(value).resolve())
    return (
        [(_absolute(name, file), strength) for file, strength in value] if isinstance(value, list) else value
    )


class Table:
    """All films, a row each: written as they end, and again as a whole at the end."""

    def __init__(self, jobs: list[Job], asked: Asked) -> None:
        self._asked = asked
        self._jobs, self.states = jobs, [State("waiting")] * len(jobs)
        self._width = max(len(job.name) for job in jobs)
        self.line = ProgressLine(sys.stderr)

    def found(self, number: int) -> bool:
        """Whether a film need not be made; then its row says so."""
        path = made_before(self._jobs[number], self._asked)
        if path is not None:
            self.states[number] = State("there", 1.0, words=str(path))
        return self.states[number].over

    def tell(self, number: int, state: State) -> None:
        """Take in how far a film is."""
        self.states[number] = state
        if state.over:
            self.line.end()
            print(self._row(number), file=sys.stderr, flush=True)
        else:
            self.line.show(self.summary())

    def stop(self) -> None:
        """Nothing is being made any more."""
        self.states = [
            State("stopped", state.share) if state.kind == "making" else state for state in self.states
        ]

    def summary(self) -> str:
        """How far all are."""
        over = sum(state.over for state in self.states)
        making = [
            f"{job.name} {state.share:.0%}{f' ({clock(state.left)} left)' if state.left else ''}"
            for job, state in zip(self._jobs, self.states)
            if state.kind == "making"
        ]
        return f"{over} of {counted(len(self._jobs), 'film')}, making {', '.join(making) or 'nothing yet'}"

    def _row(self, number: int) -> str:
        state = self.states[number]
        words = " ".join(state.words.split())
        return f"{self._jobs[number].name:<{self._width}}  {state.kind:<7}  {state.share:>4.0%}  {words}".rstrip()

    def lines(self) -> Iterator[str]:
        """The whole table."""
        yield f"{'film':<{self._width}}  {'state':<7}  made"
        yield from map(self._row, range(len(self._jobs)))
