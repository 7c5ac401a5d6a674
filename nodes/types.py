"""What our own sockets carry: light values only. Heavy things are in the Take on disk, or ride on native sockets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from comfy_api.latest import io

from ..gf_core.errors import TakeError

if TYPE_CHECKING:
    from ..gf_core.take.folder import Run
    from ..gf_core.timeline import Storyboard

Timeline = io.Custom("GF_TIMELINE")
"""A `TimelineText`."""
Memory = io.Custom("GF_MEMORY")
"""A `gf_core.config.MemorySpec`."""
Take = io.Custom("GF_TAKE")
"""A `TakeHandle`."""
LARGEST = 2 * 10**9
"""Bytes of pictures or latents that may leave a Take at once."""


@dataclass(frozen=True)
class TimelineText:
    """A storyboard and the text that it was read from, remarks and all."""

    board: Storyboard
    text: str

    def with_seed(self, seed: int) -> TimelineText:
        """The same film with `seed`, unless its text has an `@seed` already; its lines stay where they are."""
        if self.board.seed is not None:
            return self
        return TimelineText(replace(self.board, seed=seed), f"{self.text}\n@seed {seed}\n")


@dataclass(frozen=True)
class TakeHandle:
    """One render of a film, on disk."""

    folder: str
    """Absolute path of the Take."""
    run: str
    """Name of the render's folder in it."""

    def open(self) -> Run:
        """Its paths and readers. Raises TakeError: the folder was deleted or moved."""
        from ..gf_core.take.folder import Run

        folder = Path(self.folder) / self.run
        if not folder.is_dir():
            raise TakeError(
                f"the render {self.run} of the Take '{Path(self.folder).name}' is gone from the disk",
                "press Run again: the Stream Sampler makes it anew",
            )
        return Run(folder)
