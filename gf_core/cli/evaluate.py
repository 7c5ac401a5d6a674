"""`grounded evaluate`: measure a film, or all films of a folder; `grounded drift`: chart one."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections import Counter
from pathlib import Path
from typing import Any

from ..errors import GroundedError
from ..evaluation.charts.drift import drift_chart, shot_lines
from ..evaluation.film import evaluate_film
from ..evaluation.films_table import films_table
from ..evaluation.parts import told_parts
from ..evaluation.report import text_report, write_json
from ..evaluation.vbench.adapter import add_scores, require_vbench
from ..files.atomic import check_file, fitting, write_atomic
from ..files.listing import below
from ..video import probe
from ..words import counted
from .files import FILMS, is_film, read_text
from .screen import going_on

MEANING = (
    "what is good         prompt and identity near 100 %, changes and unreadable near 0 %, chunk borders near 1: "
    "docs/films.md, How good is it?"
)
"""Under the figures of one film."""


def evaluate(args: Namespace) -> int:
    """Print what is measured; JSON and chart where asked. 2 where a film of a folder could not be measured."""
    for path in (args.json, args.chart):
        if path is not None:
            check_file(path)
    if args.film.is_dir() and (args.storyboard or args.chart):
        option = "--storyboard" if args.storyboard else "--chart"
        raise GroundedError(f"{option} is for one film, and {args.film} is a folder", "name one film")
    films = films_in(args.film) if args.film.is_dir() else [args.film]
    for python, long in _scorers(args):  # before anything is measured, which takes minutes
        require_vbench(python, films, long)
    if args.film.is_dir():
        return _evaluate_folder(args, films)
    text = None if args.storyboard is None else read_text(args.storyboard)
    with going_on(f"measuring {args.film.name}"):
        result = evaluate_film(args.film, text, args.json, args.chart)
    try:
        if _vbench(args, [(args.film, result)]) and args.json:
            write_json(result, args.json)
    finally:  # what was measured here is told, whatever becomes of the scores
        print(text_report(result), MEANING, sep="\n", flush=True)
    return 0


def _evaluate_folder(args: Namespace, paths: list[Path]) -> int:
    """A table of all films that can be measured; the others are named with the reason."""
    found = list[tuple[Path, dict[str, Any]]]()
    for number, path in enumerate(paths, 1):
        name = path.relative_to(args.film).as_posix()
        film = f"film {number} of {len(paths)}, {name}"
        print(film, file=sys.stderr, flush=True)
        try:
            with going_on(film):
                found.append((path, evaluate_film(path) | {"film": name}))
        except GroundedError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    if found:
        means = dict[str, float]()
        try:
            means |= _vbench(args, found)
        finally:
            _tell_all(args, [result for _, result in found], means)
    return 0 if len(found) == len(paths) else 2


def _tell_all(args: Namespace, results: list[dict[str, Any]], means: dict[str, float]) -> None:
    """The table of a folder, and its JSON where asked."""
    print(*films_table(results, means), sep="\n")
    reasons = Counter(reason for result in results for reason in result["over_time"]["left_out"].items())
    for (name, why), count in reasons.items():
        print(f"not measured         {name} of {counted(count, 'film')}: {why}", flush=True)
    if args.json:
        write_json({"films": results, "vbench": means}, args.json)


def _scorers(args: Namespace) -> list[tuple[Path, bool]]:
    """The Pythons that are to score, and whether with VBench-Long."""
    return [(python, long) for python, long in ((args.vbench, False), (args.vbench_long, True)) if python]


def _vbench(args: Namespace, films: list[tuple[Path, dict[str, Any]]]) -> dict[str, float]:
    """Put the scores that are asked for into the films' results, and return their means by title."""
    means: dict[str, float] = {}
    for python, long in _scorers(args):
        means |= add_scores(films, python, long)
    return means


def films_in(folder: Path) -> list[Path]:
    """All films in a folder and those below it, by name. Raises GroundedError: there are none, or a folder there
    cannot be listed."""
    found = [path for path in below(folder) if is_film(path.name) and path.is_file()]
    if not found:
        raise GroundedError(f"there are no films in {folder}", f"a film ends with {', '.join(FILMS)}")
    return found


def drift(args: Namespace) -> int:
    """Does every shot stay what its first second was? Prints a line per shot and draws the chart."""
    parts, unknown = told_parts(args.film)
    out = args.out or args.film.with_name(fitting(args.film.stem, "_drift.png"))
    check_file(out)
    with going_on(f"measuring {args.film.name}"):
        image, rows = drift_chart(args.film, parts)
    print(*shot_lines(parts, rows, float(probe(args.film).fps)), sep="\n")
    if unknown:
        print(f"segments  {unknown}")
    write_atomic(out, lambda part: image.save(part, "PNG"))
    print(f"chart in {out}")
    return 0
