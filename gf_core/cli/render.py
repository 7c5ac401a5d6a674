"""`grounded render`: a storyboard becomes a film, with one line of progress."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from ..engine.render import FilmResult, render_settled
from ..engine.report import report_lines
from ..errors import GroundedError
from .files import film_name
from .opening import open_film
from .screen import Screen
from .settings import INTERRUPTED


def render(args: Namespace) -> int:
    """Render, print where everything is; 130 after Ctrl-C, with the film so far left playable."""
    film = open_film(args)
    out = Path("films") / f"{film_name(args)}.mp4" if args.out is None else args.out
    if not out.name:
        raise GroundedError("--out names no file", "give one such as films/fox.mp4, or leave --out away")
    screen = Screen()
    try:
        with screen.shown():
            result = render_settled(
                film,
                out,
                take_folder=args.take or Path("takes") / out.stem,
                until=args.until,
                sheet=not args.no_sheet,
                listener=screen.tell,
                on_budget=screen.show_budget,
            )
    except KeyboardInterrupt:
        print(screen.what_is_kept(), file=sys.stderr)
        return INTERRUPTED
    print(*_summary(result), sep="\n")
    return 0


def _summary(result: FilmResult) -> list[str]:
    places = [("film", result.path), ("sheet", result.sheet), ("report", result.report_path)]
    return report_lines(result.report) + [f"{label:<9}{path}" for label, path in places if path]
