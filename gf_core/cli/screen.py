"""What is seen while a film is made: the estimate, one line of progress, and where the film is after Ctrl-C."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from ..engine.events import ChunkDone, Event, Finished, Replayed, Reused, Started, StepDone
from ..estimate.budget import Budget
from ..words import clock, part_of

PAUSE = 5.0
"""Seconds between lines where they cannot be rewritten, such as a log file."""
SILENCE = 10.0
"""Seconds after which it is said again what is being done."""
LOOK = 0.2
"""Seconds between two looks at whether it is time to."""


class Screen:
    """Turns events into what is seen."""

    def __init__(self) -> None:
        self.line = ProgressLine(sys.stderr)
        self._started: Started | None = None
        self._reused: Reused | None = None
        self._last: ChunkDone | None = None
        self._finished: Finished | None = None
        self._doing, self._since = "getting ready", time.monotonic()

    def shown(self) -> contextlib.AbstractContextManager[None]:
        """Inside the block it is said what is being done, as `ProgressLine.kept` tells."""
        return self.line.kept(lambda: f"{self._doing}  {clock(time.monotonic() - self._since)}")

    def show_budget(self, budget: Budget) -> None:
        """Print the estimate."""
        print(*budget.lines(), sep="\n", flush=True)

    def tell(self, event: Event) -> None:
        """Show how far the film is."""
        if isinstance(event, Started):
            self._started, self._reused, self._last, self._finished = event, None, None, None
        elif isinstance(event, Reused) and self._started is not None:
            self._reused = event
            kept = part_of(
                event.segments, self._started.segments, "segment", "is as it was", "are as they were"
            )
            if event.chunks and not event.segments:
                seconds = event.frames / self._started.frames * self._started.seconds
                kept = f"the first {clock(seconds)} of segment 1 is as it was"
            print(f"{kept}; {event.changed}" if event.changed else kept, file=sys.stderr)
        elif isinstance(event, Replayed):
            self._doing = f"reading chunk {event.index + 1} of {event.upto} into the memory again"
        elif isinstance(event, StepDone):
            step = f"step {event.step} of {event.steps}"
            if event.step == event.steps:  # its pictures may take longer than all steps did
                step = "steps done, its pictures"
            self._doing = f"chunk {event.index + 1} of {event.total}, {step}, {event.share:.0%}"
        elif isinstance(event, Finished):
            self._finished, self._doing = event, "saving the film, its sheet and its report"
            self._since = time.monotonic()
        elif isinstance(event, ChunkDone) and self._started is not None:
            self._last = event
            shot, shots, total = event.shot + 1, self._started.shots, self._started.seconds
            left = event.seconds_left
            self.line.show(progress_line(shot, shots, event.film_seconds, total, event.fps, left))

    def what_is_kept(self) -> str:
        """Where the film so far is, which may be whole."""
        if self._finished is not None:
            return f"stopped: all of the film lies in {self._finished.path}; run again to have it saved"
        if self._started is None:
            return "stopped before anything new was made"
        if self._last is not None:
            seconds = clock(self._last.film_seconds)
            return f"stopped: {seconds} of film is kept in {self._started.path}; run again to go on"
        if self._reused is not None and self._reused.frames:
            seconds = clock(self._reused.frames / self._started.frames * self._started.seconds)
            take = self._started.path.parent.parent
            return f"stopped before anything new was made: {seconds} of film is in {take}; run again to go on"
        return "stopped before the first chunk was done"


@contextlib.contextmanager
def going_on(what: str) -> Iterator[None]:
    """Inside the block it is said every `SILENCE` seconds for how long `what` goes on, for work that tells nothing."""
    line, since = ProgressLine(sys.stderr), time.monotonic()
    line.end()  # a pause begins here: what is over at once is not worth a line
    with line.kept(lambda: f"{what}  {clock(time.monotonic() - since)}"):
        yield


def progress_line(shot: int, shots: int, done: float, total: float, fps: float, left: float) -> str:
    """`shot 3/9  0:21 of 1:10  18.2 fps  2:40 left`; `shot` counts from 1, times are in seconds."""
    return f"shot {shot}/{shots}  {clock(done)} of {clock(total)}  {fps:.1f} fps  {clock(left)} left"


class ProgressLine:
    """Shows the latest line on `stream`: rewritten in place on a terminal, repeated every few seconds elsewhere."""

    def __init__(self, stream: TextIO, now: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._now = stream, now
        self._rewrites, self._lock = stream.isatty(), threading.RLock()
        self._shown_at = now() - PAUSE
        self._width = 0

    def show(self, text: str, pause: float = PAUSE) -> None:
        """Put `text` in place of the line before, or add it if the last one is `pause` seconds old."""
        with self._lock:
            if self._rewrites:
                text = text[: shutil.get_terminal_size().columns - 1]
                self._stream.write("\r" + text.ljust(self._width))
                self._width = len(text)
            else:
                if self._now() - self._shown_at < pause:
                    return
                self._stream.write(text + "\n")
            self._shown_at = self._now()
            self._stream.flush()

    @contextlib.contextmanager
    def kept(self, doing: Callable[[], str]) -> Iterator[None]:
        """Log lines get a line of their own inside the block, and the progress line stands in the end.

        Where nothing was said for `SILENCE`, that is what `doing` gives.
        """
        log, over = logging.getLogger("grounded"), threading.Event()

        def remind() -> None:
            while not over.wait(LOOK):
                self.remind(doing())

        log.addFilter(self._make_room)
        # A computer so full that it begins no thread has other worries.
        with contextlib.suppress(RuntimeError):
            threading.Thread(target=remind, name="grounded-screen", daemon=True).start()
        try:
            yield
        finally:
            over.set()
            log.removeFilter(self._make_room)
            self.end()

    def _make_room(self, record: logging.LogRecord) -> bool:
        """A log filter that lets everything pass, on a line of its own."""
        self.end()
        return True

    def remind(self, text: str) -> None:
        """Show `text` if nothing was said for `SILENCE`."""
        if self._now() - self._shown_at >= SILENCE:
            self.show(text, SILENCE)

    def end(self) -> None:
        """Leave the line standing and continue below it."""
        with self._lock:
            self._shown_at = max(self._shown_at, self._now() - PAUSE)  # something else is said
            if self._rewrites and self._width:
                self._stream.write("\n")
                self._stream.flush()
                self._width = 0
