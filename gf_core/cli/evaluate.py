"""`grounded evaluate`: measure a film, or all films of a folder."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from ..errors import GroundedError
from .files import FILMS, is_film, read_text


def evaluate(args: Namespace) -> int:
    """Print what is measured; JSON and chart where asked. 2 where a film of a folder could not be measured."""
    for path in (args.json, args.chart):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
    if args.film.is_dir():
        return _evaluate_folder(args)
    from ..evaluation.film import evaluate_film
    from ..evaluation.report import text_report

    text = None if args.storyboard is None else read_text(args.storyboard)
    print(text_report(evaluate_film(args.film, text, args.json, args.chart)))
    return 0


def _evaluate_folder(args: Namespace) -> int:
    """A table of all films that can be measured; the others are named with the reason."""
    if args.storyboard or args.chart:
        option = "--storyboard" if args.storyboard else "--chart"
        raise GroundedError(f"{option} is for one film, and {args.film} is a folder", "name one film")
    from ..evaluation.film import evaluate_film
    from ..evaluation.films_table import films_table
    from ..evaluation.report import write_json

    paths, found = films_in(args.film), list[dict[str, Any]]()
    for path in paths:
        try:
            found.append(evaluate_film(path) | {"film": path.relative_to(args.film).as_posix()})
        except GroundedError as error:
            print(f"{path.relative_to(args.film)} is left out: {error}", file=sys.stderr)
    if found:
        print(*films_table(found), sep="\n")
        for name, why in found[-1]["over_time"]["left_out"].items():
            print(f"not measured         {name}: {why}")
    if args.json:
        write_json({"films": found}, args.json)
    return 0 if len(found) == len(paths) else 2


def films_in(folder: Path) -> list[Path]:
    """All films in a folder and those below it, by name.

    Raises:
        GroundedError: there are none.
    """
    found = sorted(path for path in folder.rglob("*") if is_film(path.name) and path.is_file())
    if not found:
        raise GroundedError(f"there are no films in {folder}", f"a film ends with {', '.join(FILMS)}")
    return found
