"""The suite's numbers as a table with a row per memory, each mean with the interval that it lies in."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from .measures.bootstrap import cell_of

Values = Callable[[dict], list[float]]
"""The numbers of a film that a column is the mean of."""


def _hidden(keep: Callable[[dict], bool]) -> Values:
    """Share of scarf, hat and patch kept, in the seconds that `keep` takes."""
    return lambda film: [row["hidden"] for row in film["identity_by_second"] if keep(row)]


def _actions(film: dict) -> list[float]:
    judged = [segment["read"]["action"]["right"] for segment in film["segments"]]
    return [float(right) for right in judged if right is not None]


def _drift(film: dict) -> list[float]:
    """Colours of every second of the long shot against its first one's."""
    return [value for shot in film["picture"]["colour_drift_by_second"] for value in shot[1:]]


COLUMNS: dict[str, tuple[str, Values, float]] = {
    "within a shot": ("mixed", _hidden(lambda row: row["age"] > 0 and row["cuts"] == 0), 100),
    "after a cut": ("mixed", _hidden(lambda row: row["cuts"] > 0 and row["absence"] == 0), 100),
    "after somebody else": ("returns", _hidden(lambda row: row["segment"] == 2), 100),
    "over a minute": ("long", _hidden(lambda row: row["age"] > 0), 100),
    "in the last 10 s": ("long", _hidden(lambda row: row["age"] >= 50), 100),
    "actions": ("mixed", _actions, 100),
    "drift": ("long", _drift, 1000),
}
"""Title -> which set of films, what of them, and what it is multiplied by: shares are in per cent, drift in
thousandths."""


def _films(result: dict) -> dict[str, list[dict]]:
    """The films by set; they are kept one set after another."""
    sets = list(result["counts"])
    edges = np.cumsum([0, *result["counts"].values()])
    return {name: result["films"][start:stop] for name, start, stop in zip(sets, edges, edges[1:])}


def suite_table(results: Mapping[str, dict]) -> list[str]:
    """Lines of Markdown; intervals hold 95 % of the means of films drawn anew (`bootstrap.mean_interval`)."""
    lines = [f"| memory | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, result in results.items():
        films = _films(result)
        cells = [
            cell_of(list(map(values, films.get(of, []))), times) for of, values, times in COLUMNS.values()
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines
