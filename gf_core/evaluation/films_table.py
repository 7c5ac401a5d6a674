"""The numbers of many films as a table with a row per film, and their means."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from ..words import plain
from .measures.bootstrap import mean_cell, mean_interval
from .over_time import MEASURES
from .report import change, cut_words, percent

Column = tuple[Callable[[dict], float | None], Callable[[float], str]]


def _columns(means: Mapping[str, float]) -> dict[str, Column]:
    """Title -> the number of a film (None where it has none), and how it is written."""
    columns: dict[str, Column] = {
        "identity": (lambda film: film.get("identity", {}).get("hidden"), percent),
        "actions": (lambda film: film.get("adherence", {}).get("action"), percent),
    }
    for name in MEASURES:
        columns[name] = (lambda film, name=name: film["over_time"]["drift"][name], change)
    columns["borders"] = (lambda film: film["over_time"].get("borders"), lambda value: f"{value:.2f}")
    for title in means:
        columns[title] = (lambda film, title=title: film["vbench"].get(title), lambda value: f"{value:.3f}")
    return columns


def films_table(films: Sequence[dict], means: Mapping[str, float]) -> list[str]:
    """Lines of Markdown of results of `evaluate_film`; a column that no film has is left out.

    The last row has the mean and the interval that holds 95 % of the means of films drawn anew.
    means: title -> mean, as VBench weighs films, of what they have under `vbench`.
    """
    shown = {title: column for title, column in _columns(means).items() if _numbers(films, column[0])}
    cut = any("cuts" in film["over_time"] for film in films)
    lines = [
        f"| film | seconds | {' | '.join(shown)}{' | cuts' if cut else ''} |",
        "|---" * (len(shown) + 2 + cut) + "|",
    ]
    for film in films:
        cells = [_cell(value(film), write) for value, write in shown.values()]
        cells += [cut_words(film["over_time"]["cuts"]) if "cuts" in film["over_time"] else "—"] * cut
        name = plain(film["film"]).replace("|", "\\|")
        lines.append(f"| {name} | {film['seconds']:.1f} | {' | '.join(cells)} |")
    last = []
    for title, (value, write) in shown.items():
        mean, low, high = mean_interval([[number] for number in _numbers(films, value)])
        last.append(mean_cell((means.get(title, mean), low, high), write))
    lines.append(f"| mean | | {' | '.join(last + [''] * cut)} |")
    return lines


def _numbers(films: Sequence[dict], value: Callable[[dict], float | None]) -> list[float]:
    return [number for film in films if (number := value(film)) is not None and not math.isnan(number)]


def _cell(number: float | None, write: Callable[[float], str]) -> str:
    return "—" if number is None or math.isnan(number) else write(number)
