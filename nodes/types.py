"""What our own sockets carry: light values only. Heavy things are in the Take on disk, or ride on native sockets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from comfy_api.latest import io

from ..gf_core.errors import TakeError

if TYPE_CHECKING:
    from ..gf_core.engine.take import Run

Timeline = io.Custom("GF_TIMELINE")
"""A `gf_core.timeline.Storyboard`."""
Memory = io.Custom("GF_MEMORY")
"""A `gf_core.config.MemorySpec`."""
Take = io.Custom("GF_TAKE")
"""A `TakeHandle`."""


@dataclass(frozen=True)
class TakeHandle:
    """One render of a film, on disk."""

    folder: str
    """Absolute path of the Take."""
    run: str
    """Name of the render's folder in it."""

    def open(self) -> Run:
        """Its paths and readers.

        Raises:
            TakeError: the folder was deleted or moved.
        """
        from ..gf_core.engine.take import Run

        folder = Path(self.folder) / self.run
        if not folder.is_dir():
            raise TakeError(
                f"the render {self.run} of the Take '{Path(self.folder).name}' is gone from the disk",
                "press Queue again: the Stream Sampler makes it anew",
            )
        return Run(folder)
