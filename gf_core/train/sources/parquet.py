"""Parquet: a column of prompts, and latents where they lie as FastVideo writes them (bytes, shape, dtype).

`vae_latent_*` [c f h w] are the codec's own numbers, `trajectory_latents_*` [s c f h w] the video model's: the former
are normalised here, with what the model's codec offers for it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

from torch import Tensor

from ...files.listing import below
from .base import Sample, package, readable, refused, tensor_of

PROMPTS = ("caption", "prompt", "text")
"""Names of the column of prompts, the first that is there."""
KINDS = ("trajectory_latents", "vae_latent")
"""Latents, the first that are there."""
STATES = (0, 12, 24, 36, -1)
"""Of a longer trajectory: the states at a student's four timesteps, and the clean one (Self-Forcing's choice)."""


def tables(path: Path) -> list[Path]:
    """The parquet files at `path`: it, or those below it."""
    if path.is_file():
        return [path] if path.suffix == ".parquet" else []
    return [place for place in below(path) if place.match("*.parquet")]


class Parquet:
    """Rows of all files at a path. normalise: the codec's latents `... c h w` to the video model's. latents: as of
    `open_source`."""

    def __init__(
        self, path: Path, normalise: Callable[[Tensor], Tensor] | None = None, latents: bool = True
    ) -> None:
        with package(path):
            import pyarrow
            import pyarrow.parquet as pq
        self.path, self._normalise = path, normalise
        self._errors = (pyarrow.ArrowException, OSError, UnicodeDecodeError)
        self._groups: list[tuple[Path, Any, int]] = []
        sizes: list[int] = []
        for place in tables(path):
            with readable(place, self._errors):
                file = pq.ParquetFile(place)
            for group in range(file.num_row_groups):
                self._groups.append((place, file, group))
                sizes.append(file.metadata.row_group(group).num_rows)
        self._starts = list(accumulate(sizes, initial=0))
        if not len(self):
            raise refused(path, "there is no row in it", f"give files with a column {' or '.join(PROMPTS)}")
        names = self._groups[0][1].schema_arrow.names
        self._prompt = next((name for name in PROMPTS if name in names), None)
        if self._prompt is None:
            known = ", ".join(names[:12])
            raise refused(path, f"no column of prompts among {known}", f"call it {' or '.join(PROMPTS)}")
        kind = next((kind for kind in KINDS if f"{kind}_bytes" in names), None)
        self._kind, self.unread = kind if latents else None, kind is not None and not latents
        if self._kind == "vae_latent" and normalise is None:
            fix = "give the model whose codec made them: --model or --vae"
            raise refused(path, "its latents are not normalised, and no codec says how to", fix)
        self._parts = [f"{self._kind}_{part}" for part in ("bytes", "shape", "dtype")] if self._kind else []
        for place, file, _ in self._groups:
            if lacking := {self._prompt, *self._parts} - set(file.schema_arrow.names):
                fix = "give every file the same columns, or each kind a folder of its own"
                raise refused(place, f"it has no column {', '.join(sorted(lacking))}", fix)

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, number: int) -> Sample:
        if not 0 <= number < len(self):
            raise IndexError(number)
        at = bisect_right(self._starts, number) - 1
        place, file, group = self._groups[at]
        with readable(place, self._errors):
            table = file.read_row_group(group, columns=[self._prompt, *self._parts])
            row = table.slice(number - self._starts[at], 1).to_pylist()[0]
        data, shape, dtype = (row[part] for part in self._parts) if self._parts else (None, None, None)
        prompt = _prompt_of(row[self._prompt], place, number)
        if not data or shape is None or dtype is None:
            return Sample(prompt)
        try:
            return Sample(prompt, states=self._states(tensor_of(data, tuple(shape), dtype)))
        except (ValueError, TypeError) as error:
            raise refused(
                place, f"the latents of row {number} are damaged: {error}", "make it again"
            ) from error

    def told(self, *, changes: bool) -> Iterator[tuple[str, str]]:
        """Every prompt, with its file and row over all files. Raises GroundedError for a row without."""
        for start, (place, file, group) in zip(self._starts, self._groups):
            with readable(place, self._errors):
                column = file.read_row_group(group, columns=[self._prompt]).column(0).to_pylist()
            for number, prompt in enumerate(column, start):
                yield f"{place.name}, row {number}", _prompt_of(prompt, place, number)

    def _states(self, stored: Tensor) -> Tensor:
        """Stored latents as [s f c h w]."""
        if self._kind == "vae_latent":
            if stored.ndim != 4 or self._normalise is None:
                raise ValueError(
                    f"latents {list(stored.shape)} where [channels frames height width] are meant"
                )
            return self._normalise(stored.transpose(0, 1))[None]
        stored = stored[0] if stored.ndim == 6 and len(stored) == 1 else stored
        if stored.ndim != 5:
            raise ValueError(
                f"states {list(stored.shape)} where [states channels frames height width] are meant"
            )
        if len(STATES) < len(stored) <= max(STATES):
            raise ValueError(
                f"{len(stored)} states where up to {len(STATES)}, or all of over {max(STATES)}, are meant"
            )
        chosen = stored if len(stored) <= len(STATES) else stored[list(STATES)]
        return chosen.transpose(1, 2).contiguous()


def _prompt_of(found: Any, place: Path, number: int) -> str:
    if not isinstance(found, str):
        raise refused(place, f"row {number} has no prompt", "fill or remove it")
    return found
