"""Times, speed and memory of a run, measured while it goes, in constant space."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator

import psutil

from ..devices import held_bytes

log = logging.getLogger("grounded")


class Meter:
    """Counts seconds per stage, pictures per second, and the peak of this process's memory.

    expected: pictures per second of such films before; 0 where none was made.
    """

    def __init__(self, expected: float = 0.0) -> None:
        self.seconds: dict[str, float] = {}
        """Seconds spent in each stage of the sampling thread."""
        self.peak = 0
        """Most bytes that the process has held (`devices.held_bytes`), as seen at denoising steps and commits."""
        self._inner, self._expected = 0.0, expected
        self._began = time.perf_counter()
        self._sampling_began = self._began
        self._before = 0
        self._first: tuple[float, int] | None = None
        self._last: tuple[float, int] | None = None

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time inside the block as stage `name`, less what stages inside it count for themselves."""
        outer, self._inner, start = self._inner, 0.0, time.perf_counter()
        try:
            yield
        finally:
            whole = time.perf_counter() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + whole - self._inner
            # All of it lies inside the stage around it, which counts none of it again.
            self._inner = outer + whole

    def start_sampling(self, frames: int = 0) -> None:
        """Preparation is over: speed counts from here, and from the `frames` pictures that are on disk already."""
        self._before = frames
        self._sampling_began = time.perf_counter()

    def note_memory(self) -> None:
        """Note the memory in use now."""
        try:
            self.peak = max(self.peak, held_bytes())
        except (OSError, psutil.Error) as error:  # no more files may be opened, say
            log.debug("the memory in use is not known: %s", error)

    def committed(self, frames: int) -> None:
        """Note that the film on disk now has `frames` pictures."""
        self.note_memory()
        self._last = (time.perf_counter(), frames)
        self._first = self._first or self._last

    @property
    def elapsed(self) -> float:
        """Seconds since the run was begun."""
        return time.perf_counter() - self._began

    @property
    def first_chunk_seconds(self) -> float:
        """Seconds from the start of sampling to the first committed chunk; 0 before it."""
        return self._first[0] - self._sampling_began if self._first else 0.0

    @property
    def fps(self) -> float:
        """Pictures per second, decode and encode included; 0 before the first commit.

        The first chunk is slower (kernels are chosen, buffers made, the queue is empty), so it counts only while it
        is the only one.
        """
        if self._first is None or self._last is None:
            return 0.0
        if self._last is self._first:
            return (self._last[1] - self._before) / max(self._last[0] - self._sampling_began, 1e-9)
        return (self._last[1] - self._first[1]) / max(self._last[0] - self._first[0], 1e-9)

    @property
    def pace(self) -> float:
        """`fps`, but what was expected as long as only the first chunk tells of it."""
        return self._expected if self._expected and self._last is self._first else self.fps

    def seconds_left(self, frames: int) -> float:
        """Seconds for `frames` more pictures at this pace; 0 where none is known."""
        return frames / self.pace if self.pace else 0.0


def free_memory() -> int:
    """Bytes that this computer has left; 0 where it cannot say."""
    try:
        return psutil.virtual_memory().available
    except (OSError, psutil.Error) as error:
        log.debug("the free memory is not known: %s", error)
        return 0
