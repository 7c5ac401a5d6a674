"""How sure is a mean over films? Percentile bootstrap (Efron 1979) over whole films, whose seconds are no independent
numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

TIMES = 2000
LEVEL = 0.95


def mean_interval(films: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """Mean of all numbers, and the ends of the interval that holds `LEVEL` of the means of films drawn anew.

    films: the numbers of each film; those without any do not count. One film has no interval: both ends are NaN.
    """
    kept = [np.asarray(film, float) for film in films if len(film)]
    if not kept:
        return float("nan"), float("nan"), float("nan")
    sums, counts = np.array([film.sum() for film in kept]), np.array([film.size for film in kept])
    mean = float(sums.sum() / counts.sum())
    if len(kept) == 1:
        return mean, float("nan"), float("nan")
    drawn = np.random.default_rng(0).integers(0, len(kept), (TIMES, len(kept)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return mean, float(low), float(high)


def cell_of(films: Sequence[Sequence[float]], times: float) -> str:
    """`mean_cell` of `times` the mean of these films' numbers, in whole numbers where `times` is more than 1."""
    return mean_cell(mean_interval(films), lambda value: f"{times * value:.{0 if times > 1 else 2}f}")


def mean_cell(found: tuple[float, float, float], write: Callable[[float], str]) -> str:
    """A mean with its interval as a table says it: `75 (70 to 81)`, `75` where there is none, a dash for neither."""
    mean, low, high = found
    if math.isnan(mean):
        return "–"
    return write(mean) if math.isnan(low) else f"{write(mean)} ({write(low)} to {write(high)})"
