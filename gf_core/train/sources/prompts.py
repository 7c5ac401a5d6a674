"""Prompts in a text file, one per line; those after a switch in a second file, line by line (as LongLive has them)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...files.utf8 import as_text
from ...words import counted
from .base import Sample, readable, refused


class Prompts:
    """Prompts of a UTF-8 text file; empty lines are none.

    then: a second file whose n-th line is what the n-th prompt turns into.
    """

    unread = False

    def __init__(self, path: Path, then: Path | None = None) -> None:
        self.path, self._then = path, then
        first = _lines(path)
        second = _lines(then) if then else [""] * len(first)
        if then and len(second) != len(first):
            raise refused(
                then,
                f"it has {counted(len(second), 'line')}, and {path.name} has {len(first)}",
                "pair them line by line",
            )
        for number, (one, other) in enumerate(zip(first, second), start=1):
            if then and bool(one) != bool(other):
                raise refused(
                    path if not one else then,
                    f"line {number} is empty, its partner is not",
                    "fill or remove both",
                )
        self._pairs = {line: pair for line, pair in enumerate(zip(first, second), start=1) if pair[0]}
        self._lines = list(self._pairs)
        if not self._pairs:
            raise refused(path, "there is no prompt in it", "write one prompt per line")

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, number: int) -> Sample:
        return Sample(*self._pairs[self._lines[number]])

    def told(self, *, changes: bool) -> Iterator[tuple[str, str]]:
        """Every prompt, with its file and line."""
        for line, pair in self._pairs.items():
            yield f"{self.path.name}, line {line}", pair[0]
            if self._then is not None and changes:
                yield f"{self._then.name}, line {line}", pair[1]


def _lines(path: Path) -> list[str]:
    with readable(path, OSError):
        text = as_text(path.read_bytes(), path)
    return [line.strip() for line in text.rstrip().split("\n")]
