"""Published Wan-family checkpoints: what each file is called, what it was trained to do, and what it needs.

A checkpoint does not say which steps, shift and window it wants, so this table does. Rows lie by family; every other
module asks here.
"""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

from . import distilled, large, long
from .row import KnownCheckpoint

CATALOG: tuple[KnownCheckpoint, ...] = (*distilled.ROWS, *long.ROWS, *large.ROWS)


def by_id(name: str) -> KnownCheckpoint | None:
    """The row called `name`."""
    return next((row for row in CATALOG if row.id == name), None)


def drivable() -> list[str]:
    """Ids of the rows that films are made with."""
    return [row.id for row in CATALOG if row.films]


def match(path: Path, dim: int, outer: str | None = None) -> KnownCheckpoint | None:
    """The first row that is called like the end of `path` and fits a transformer of width `dim` found under `outer`.

    Rows of another published width never fit; unusual widths (the built-in model) fit by name alone.
    """
    return next((row for row in named(path, outer) if not row.misfit(dim)), None)


def named(path: Path, outer: str | None = None) -> tuple[KnownCheckpoint, ...]:
    """Every row that is called like the end of `path`, without those that another of them says more exactly.

    One is the rule; with several the name does not tell. Names that many projects use count under `outer` alone. A
    base's name says nothing beside that of what was made of it.
    """
    parts = [normal(part) for part in path.parts]
    # Every diffusers folder calls its files so: the folder above says which model it is.
    while len(parts) > 1 and parts[-1].startswith(("diffusion_pytorch_model", "transformer")):
        parts.pop()
    if "snapshots" in parts:  # of a hub's cache
        place = parts.index("snapshots")
        del parts[place : place + 2]
    found = [(row, hits) for row in CATALOG if (hits := _hits(parts, row.patterns))]
    if not found:
        told = [row for row in CATALOG if outer is not None and outer in row.groups]
        found = [(row, hits) for row in told if (hits := _hits(parts, row.generic))]
    found = [entry for entry in found if entry[0].causal] or found
    return tuple(
        row for row, hits in found if not any(_exacter(o, hits) for other, o in found if other is not row)
    )


def _hits(parts: list[str], patterns: tuple[str, ...]) -> list[str]:
    """Those of `patterns` that the end of a path fits."""
    return [p for p in patterns if fnmatch("/".join(parts[-1 - p.count("/") :]), p)]


def _exacter(those: list[str], these: list[str]) -> bool:
    """Whether one pattern of `those` says all that one of `these` says, and more."""
    return any(a != b and fnmatch(a, b) for a in those for b in these)


def normal(text: str) -> str:
    """Lower case with '-' and ' ' as '_', as the patterns are written."""
    return text.lower().replace("-", "_").replace(" ", "_")


def lines() -> list[str]:
    """The table for a terminal: what to call it, what it is, whether films are made with it, under which licence."""
    width = max(len(row.id) for row in CATALOG)
    titles = max(len(row.title) for row in CATALOG)
    said = {True: "yes", False: "no"}
    return [
        f"{row.id:<{width}}  {row.title:<{titles}}  {said[row.films]:<3}  {row.licence}" for row in CATALOG
    ]
