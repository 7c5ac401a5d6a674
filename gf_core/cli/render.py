"""`grounded render`: a storyboard becomes a film, with one line of progress. `grounded takes`: several takes of one
segment, to pick one of; `grounded pick` writes it into the storyboard."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..engine.events import Event, Started
from ..engine.render import FilmResult, render_settled
from ..engine.report import report_lines
from ..engine.segment_takes import Expected, SegmentTakes, render_takes
from ..errors import STOPPED
from ..files.atomic import on_disk, write_atomic
from ..take.shelf import Alternative, find_pick
from ..timeline.edits import reseed, segment_at
from ..words import counted, rate, size, span
from .files import film_path, is_own_text, read_board, take_folder
from .opening import open_film
from .screen import Screen
from .several import in_team
from .terminal import own_name, print_text

if TYPE_CHECKING:
    from ..engine.film import Film
    from ..team import Team

DEFAULT_TAKES = 5


@in_team
def render(args: Namespace, team: Team | None) -> int:
    """Render, print where everything is; 130 after Ctrl-C, with the film so far left playable."""
    out = film_path(args)
    screen = Screen()
    try:
        with screen.shown():
            result = make_film(args, open_film(args, team), out, screen)
    except KeyboardInterrupt:
        print(screen.what_is_kept(), file=sys.stderr)
        return STOPPED
    print_film(result)
    return 0


def make_film(
    args: Namespace, film: Film, out: Path, screen: Screen, listener: Callable[[Event], None] | None = None
) -> FilmResult:
    """The film at `out` as the arguments say, shown on `screen`; `listener` is told first, and may stop it."""

    def tell(event: Event) -> None:
        if listener is not None:
            listener(event)
        screen.tell(event)

    return render_settled(
        film,
        out,
        take_folder=take_folder(args, out),
        until=args.until,
        sheet=not args.no_sheet,
        listener=tell,
        on_budget=screen.show_budget,
    )


def print_film(result: FilmResult) -> None:
    """Print what the film took and where everything is."""
    film = f"{result.path} (it lay there already)" if result.there else result.path
    places = [("film", film), ("sheet", result.sheet), ("report", result.report_path)]
    print(
        *report_lines(result.report),
        *(f"{label:<9}{path}" for label, path in places if path),
        sep="\n",
        flush=True,
    )


@in_team
def takes(args: Namespace, team: Team | None) -> int:
    """Render the takes, list names and places; 130 after Ctrl-C: those that are whole are kept."""
    count = args.seeds or len(args.names) or DEFAULT_TAKES
    screen, folder = Screen(), take_folder(args)

    def show(expected: Expected) -> None:
        print(*expected_lines(expected, args.segment), sep="\n", flush=True)

    def tell(take: Alternative, event: Event) -> None:
        if isinstance(event, Started):  # whose all that follows is
            screen.line.end()
            print(f"take {take.name}, seed {take.seed}", file=sys.stderr)
        screen.tell(event)

    try:
        with screen.shown():
            made = render_takes(
                open_film(args, team),
                folder,
                args.segment,
                count,
                names=args.names,
                listener=tell,
                on_budget=show,
            )
    except KeyboardInterrupt:
        print(f"stopped: what is made of the takes is kept in {folder}; run again to go on", file=sys.stderr)
        return STOPPED
    print(*_summary(args, made), sep="\n")
    return 0


def expected_lines(expected: Expected, segment: int) -> list[str]:
    """What takes of a segment will cost, under what the film up to its end is."""
    film = [line for line in expected.budget.lines() if not line.startswith(("disk", "kept", "time"))]
    names = ", ".join(take.name for take in expected.proposed)
    lines = [*film, f"takes   {names} of segment {segment}"]
    if not expected.missing:
        return [*lines, "time    nothing has to be made: all of them are there"]
    missing = ", ".join(take.name for take in expected.missing)
    time = "not measured on this machine yet" if expected.minutes is None else span(60 * expected.minutes)
    most = "" if expected.budget.disk.known else "at most "
    made = f"to be made: {missing}, {counted(expected.chunks, 'chunk')} in all"
    return [*lines, f"disk    {most}{size(expected.disk)}", f"time    {time}; {made}"]


def _summary(args: Namespace, made: SegmentTakes) -> list[str]:
    width = max(len(take.name) for take in made.takes)
    rows = [
        f"{take.name:<{width}}  seed {take.seed:<16}  {clip}" for take, clip in zip(made.takes, made.clips)
    ]
    words = [own_name(), "pick", args.storyboard, str(args.segment)]
    asked = {"take": args.take, "seed": args.seed, "fps": args.fps and rate(args.fps)}
    options = list[str]()
    for name, value in asked.items():  # what decides which takes are meant
        options += [] if value is None else [f"--{name}", str(value)]
    names = ", ".join(take.name for take in made.takes)
    keep = shlex.join([*words, "NAME", *options])
    return [*rows, f"sheet    {made.sheet}", f"to keep  {keep}    (NAME: {names})"]


def pick(args: Namespace) -> int:
    """Write the take's seed into the storyboard's file; where it has none of its own, print the new text."""
    text, board = read_board(args)
    segment_at(board, args.segment)
    take = find_pick(take_folder(args), board, args.segment, args.name)
    path = Path(args.storyboard)
    if not is_own_text(args.storyboard):
        print_text(reseed(text, args.segment, take.seed))
        return 0
    path = path.resolve()  # symbolic links are followed, or the link would become a file beside the true one
    with on_disk(path, "writing the seed into the storyboard"):
        changed = reseed(path.read_bytes().decode("utf-8"), args.segment, take.seed)
        write_atomic(path, lambda part: _fill(part, changed, path))
    line = board.segments[args.segment - 1].line
    print(
        f"segment {args.segment}: take {take.name}; seed {take.seed} is in line {line} of {args.storyboard}"
    )
    return 0


def _fill(part: Path, text: str, old: Path) -> None:
    part.write_bytes(text.encode("utf-8"))
    if os.name != "nt":
        shutil.copymode(old, part)
