"""What is seen while a film is made: the estimate, one line of progress, and where the film is after Ctrl-C."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator

from ..engine.budget import Budget
from ..engine.events import ChunkDone, Event, Reused, Started
from .progress import ProgressLine, clock, progress_line, reuse_line


class Screen:
    """Turns events into what is seen."""

    def __init__(self) -> None:
        self.line = ProgressLine(sys.stderr)
        self._started: Started | None = None
        self._last: ChunkDone | None = None

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Log lines get a line of their own inside the block, and the progress line stands in the end."""
        log = logging.getLogger("grounded")
        log.addFilter(self._make_room)
        try:
            yield
        finally:
            log.removeFilter(self._make_room)
            self.line.end()

    def show_budget(self, budget: Budget) -> None:
        """Print the estimate."""
        print(*budget.lines(), sep="\n", flush=True)

    def tell(self, event: Event) -> None:
        """Show how far the film is."""
        if isinstance(event, Started):
            self._started = event
        elif isinstance(event, Reused) and self._started is not None:
            print(reuse_line(event, self._started.segments), file=sys.stderr)
        elif isinstance(event, ChunkDone) and self._started is not None:
            self._last = event
            shot, shots, total = event.shot + 1, self._started.shots, self._started.seconds
            left = event.seconds_left
            self.line.show(progress_line(shot, shots, event.film_seconds, total, event.fps, left))

    def _make_room(self, record: logging.LogRecord) -> bool:
        """A log filter that lets everything pass, on a line of its own."""
        self.line.end()
        return True

    def what_is_kept(self) -> str:
        """Where the film so far is."""
        if self._started is None or self._last is None:
            return "stopped before the first chunk was done"
        return f"stopped: {clock(self._last.film_seconds)} of film are kept in {self._started.path}"
