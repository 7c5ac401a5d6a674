"""LMDB of latents or of ODE pairs, in the layout of Self-Forcing and those that followed it.

A row is `latents_<n>_data` (float16, the shape of one row behind the count in `latents_shape`) and `prompts_<n>_data`
(UTF-8). A row's latents are [f c h w], or [s f c h w] from noise to clean. One database, or a folder of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

from ...files.listing import inside
from .base import Sample, package, readable, refused, tensor_of

MOST_AXES = 6
"""Of `latents_shape`: the count and five of a row."""
AGAIN = "copy or make the database again"
LOOKED_AT = 4096
"""Bytes of a row in which something is found, unless all of it is empty."""
MOST = 2**40
"""The largest number in it that can be meant."""


def databases(path: Path) -> list[Path]:
    """The databases at `path`: it, or the folders in it that are one; none where it is something else."""
    if path.suffix in (".mdb", ".lmdb") and path.is_file():
        return [path]
    found = [folder for folder in (path, *inside(path)) if (folder / "data.mdb").is_file()]
    return found[:1] if found[:1] == [path] else found


class Database:
    """Rows of all databases at a path, in the order of their names. latents: as of `open_source`."""

    def __init__(self, path: Path, latents: bool = True) -> None:
        with package(path):
            import lmdb
        self.path, self.unread, self._errors = path, not latents, lmdb.Error
        self._parts: list[tuple[Path, Any, tuple[int, ...]]] = []
        for place in databases(path):
            with readable(place, lmdb.Error):
                part = lmdb.open(
                    str(place),
                    subdir=place.is_dir(),
                    readonly=True,
                    lock=False,
                    readahead=False,
                    meminit=False,
                )
            _check_whole(place, part)
            self._parts.append((place, part, self._shape(place, part)))
        if not len(self):
            raise refused(
                path, "there is no row in it", "give a database with latents_shape, latents_0_data, ..."
            )

    def __len__(self) -> int:
        return sum(shape[0] for _, _, shape in self._parts)

    def __getitem__(self, number: int) -> Sample:
        row = number
        for place, part, (count, *shape) in self._parts:
            if row < count:
                return self._row(place, part, row, tuple(shape))
            row -= count
        raise IndexError(number)

    def told(self, *, changes: bool) -> Iterator[tuple[str, str]]:
        """Every prompt, with its database and row."""
        for place, part, (count, *_) in self._parts:
            for row in range(count):
                prompt = self._value(place, part, f"prompts_{row}_data")
                yield f"{place.name}, row {row}", _text(place, row, prompt)

    def _shape(self, place: Path, part: Any) -> tuple[int, ...]:
        found = self._value(place, part, "latents_shape")
        try:
            shape = tuple(map(int, bytes(found).decode("ascii").split()))
        except ValueError:
            shape = ()
        if not 5 <= len(shape) <= MOST_AXES or min(shape) < 0 or max(shape) > MOST:
            told = bytes(found[:60])
            raise refused(
                place,
                f"latents_shape is {told!r}",
                "give count, then frames, channels, height, width of a row",
            )
        return shape

    def _row(self, place: Path, part: Any, row: int, shape: tuple[int, ...]) -> Sample:
        if self.unread:
            return Sample(_text(place, row, self._value(place, part, f"prompts_{row}_data")))
        data = self._value(place, part, f"latents_{row}_data")
        prompt = self._value(place, part, f"prompts_{row}_data")
        wide = len(data) == 4 * prod(shape)
        if not any(data[:LOOKED_AT]) and not any(data):
            raise refused(place, f"row {row} holds nothing but zeros: it was never written", AGAIN)
        try:
            states = tensor_of(data, shape, "float32" if wide else "float16")
        except ValueError as error:
            raise refused(place, f"row {row} is damaged: {error}", AGAIN) from error
        return Sample(_text(place, row, prompt), states=states if states.ndim == 5 else states[None])

    def _value(self, place: Path, part: Any, key: str) -> bytes:
        with readable(place, self._errors), part.begin() as reading:
            found = reading.get(key.encode())
        if found is None:
            raise refused(place, f"there is no {key} in it", "give a database in the layout of Self-Forcing")
        return found


def _text(place: Path, row: int, data: bytes) -> str:
    try:
        return bytes(data).decode("utf-8")
    except UnicodeDecodeError as error:
        raise refused(place, f"row {row} is damaged: {error}", AGAIN) from error


def _check_whole(place: Path, part: Any) -> None:
    """Refuse a database that is cut off: the library maps it, and what is behind its end would end the program.

    A sound one may be as short: pages that it had taken and given back again at its end were never written.
    """
    file = place / "data.mdb" if place.is_dir() else place
    told, there = (part.info()["last_pgno"] + 1) * part.stat()["psize"], file.stat().st_size
    if there < told:
        part.close()
        raise refused(
            place,
            f"it is cut off: {there} bytes of {told}",
            "copy it again, or the original with 'mdb_copy -c'. If the original is no longer, its last pages were "
            f"never written: truncate -s {told} '{file}' adds them, empty (a row that lay there is told)",
        )
