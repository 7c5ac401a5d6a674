"""One line that says how far the film is: rewritten in place on a terminal, repeated every few seconds elsewhere."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from ..words import clock

if TYPE_CHECKING:
    from ..engine.events import Reused

PAUSE = 5.0
"""Seconds between lines where they cannot be rewritten, such as a log file."""


def progress_line(shot: int, shots: int, done: float, total: float, fps: float, left: float) -> str:
    """`shot 3/9  0:21 of 1:10  18.2 fps  2:40 left`; `shot` counts from 1, times are in seconds."""
    return f"shot {shot}/{shots}  {clock(done)} of {clock(total)}  {fps:.1f} fps  {clock(left)} left"


def reuse_line(reused: Reused, segments: int) -> str:
    """`3 of 9 segments are as they were; segment 4: prompt`."""
    line = f"{reused.segments} of {segments} segments are as they were"
    return f"{line}; {reused.changed}" if reused.changed else line


class ProgressLine:
    """Shows the latest line on `stream`."""

    def __init__(self, stream: TextIO, now: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._now = stream, now
        self._rewrites = stream.isatty()
        self._shown_at = -PAUSE
        self._width = 0

    def show(self, text: str) -> None:
        """Put `text` in place of the line before, or add it if the last one is old enough."""
        if self._rewrites:
            text = text[: shutil.get_terminal_size().columns - 1]
            self._stream.write("\r" + text.ljust(self._width))
            self._width = len(text)
        else:
            if self._now() - self._shown_at < PAUSE:
                return
            self._stream.write(text + "\n")
        self._shown_at = self._now()
        self._stream.flush()

    def end(self) -> None:
        """Leave the line standing and continue below it."""
        if self._rewrites and self._width:
            self._stream.write("\n")
            self._stream.flush()
            self._width = 0
