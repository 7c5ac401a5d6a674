"""Which row of the catalogue a file is: by its name, where that fits what lies in it; else the rows that it may be.

Nothing is guessed in silence: a name that says two things, or something else than the tensors, is a doubt, and only
the user can end it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..files.unwrap import MARKS, Unwrapped
from .catalog import CATALOG, KnownCheckpoint, named
from .catalog.row import WIDTHS
from .detect import Detected
from .keymaps import experts

_NAMED = 6
"""Rows that a message names; more would not be read."""


@dataclass(frozen=True)
class Recognised:
    """What the catalogue has on a file."""

    known: KnownCheckpoint | None = None
    """The row that it is."""
    doubt: str = ""
    """Why its name does not say which row it is, in words; empty where it does, and where it says nothing."""
    candidates: tuple[str, ...] = ()
    """Ids of rows that it may be, where `known` is None."""


def recognise(path: Path, found: Unwrapped, what: Detected) -> Recognised:
    """The row of the network `found` in the file at `path`, which is `what`."""
    rows = named(path, found.outer)
    if what.spec is None:  # no network of ours: the name is for people
        return Recognised(rows[0] if rows else None)
    dim, writer = what.spec.dim, bool(experts(what.tensors)[1])
    amiss = [row.misfit(dim, what.channels, writer) for row in rows]
    fitting = [row for row, reason in zip(rows, amiss) if not reason]
    if not rows:
        return Recognised(candidates=_ids(_alike(found, what, dim, writer)))
    if not fitting:
        others = {row.repository for row in rows}
        near = _ids(row for row in _alike(found, what, dim, writer) if row.repository not in others)
        return Recognised(None, f"its name is that of {_titles(rows)}, but {amiss[0]}", near)
    packed = [row for row in fitting if (row.packed == "nvfp4") == (what.quantised == "NVFP4")]
    fitting = packed or fitting  # of equal names the tensors decide
    wants = {(row.recipe, row.lora, row.refusal) for row in fitting}
    if len(wants) == 1:
        return Recognised(fitting[0])
    return Recognised(None, f"its name is that of {_titles(fitting)}", _ids(fitting))


def _alike(found: Unwrapped, what: Detected, dim: int, writer: bool) -> Iterator[KnownCheckpoint]:
    """Rows whose files are saved like this one: width, a second set of weights, outer key, naming, wrapping."""
    for row in CATALOG:
        if not row.films or row.misfit(dim, what.channels, writer):
            continue
        if dim not in WIDTHS and row.dim != WIDTHS[0]:
            continue
        outers = row.groups or (None,)
        wrapped = MARKS.search(row.inner) is not None
        named_alike = (what.scheme == "diffusers") == (row.scheme == "diffusers")
        if named_alike and found.outer in outers and found.marked == wrapped:
            yield row


def _ids(rows: Iterator[KnownCheckpoint] | Sequence[KnownCheckpoint]) -> tuple[str, ...]:
    return tuple(row.id for row in rows)


def _titles(rows: Sequence[KnownCheckpoint]) -> str:
    return " and of ".join(row.title for row in rows)


def choices(candidates: Sequence[str]) -> str:
    """`--assume sgf or --assume sgf_plus`, for a message."""
    shown = " or ".join(f"--assume {name}" for name in candidates[:_NAMED])
    return f"{shown}, or another of `grounded inspect --list`" if len(candidates) > _NAMED else shown
