"""One worker thread beside the sampler, with a short queue in front: work overlaps, memory stays bounded."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

DEPTH = 2
"""Items that may wait; with the one in work and the one being sampled, four chunks exist at most."""
PAUSE = 0.1
"""Seconds that a call waits before it gives its caller a turn."""


class Worker(Generic[Item, Result]):
    """Runs `process` on items in order, in its own thread.

    After `process` has raised, nothing more is processed and the error is raised by the next `offer` or `finish`.
    Results are picked up with `results`; `close` must be called in the end, in a `finally`. Items for which `close`
    has no patience left get `set_aside` in place of `process`.
    """

    def __init__(
        self,
        process: Callable[[Item], Result],
        name: str,
        depth: int = DEPTH,
        set_aside: Callable[[Item], None] = lambda item: None,
    ) -> None:
        self._process, self._set_aside = process, set_aside
        self._deadline = float("inf")
        self._inbox: queue.Queue[Item | None] = queue.Queue(depth)
        self._outbox: queue.SimpleQueue[Result] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            while (item := self._inbox.get()) is not None:
                if time.monotonic() < self._deadline:
                    self._outbox.put(self._process(item))
                else:
                    self._set_aside(item)
                del item  # or the last chunk would stay alive until the next one comes
        except BaseException as error:
            self._error = error

    def offer(self, item: Item, timeout: float = PAUSE) -> bool:
        """Queue an item; False when there was no room within `timeout` seconds. Raises the worker's error."""
        if not self._thread.is_alive():
            self._raise()
            raise RuntimeError("offer after close")
        try:
            self._inbox.put(item, timeout=timeout)
        except queue.Full:
            return False
        return True

    def results(self) -> Iterator[Result]:
        """What was finished since the last call; never waits."""
        while True:
            try:
                yield self._outbox.get_nowait()
            except queue.Empty:
                return

    def finish(self, tick: Callable[[], None] = lambda: None) -> Iterator[Result]:
        """Take no more items; yield the rest of the results as they come, and call `tick` every `PAUSE` meanwhile.

        Raises the worker's error, and what `tick` raises.
        """
        while not self._put(None):
            yield from self.results()
            tick()
        while self._thread.is_alive():
            self._thread.join(PAUSE)
            yield from self.results()
            if self._thread.is_alive():
                tick()
        yield from self.results()
        self._raise()

    def close(self, patience: float = float("inf"), rest: Sequence[Item] = ()) -> None:
        """End the thread, after the queued items and `rest`, as far as it can begin on them within `patience` seconds.

        May be called twice. Raises nothing.
        """
        self._deadline = time.monotonic() + patience
        for item in (*rest, None):
            while not self._put(item):
                continue
        self._thread.join()

    def _put(self, item: Item | None) -> bool:
        """Queue an item, or None for the end; False when there was no room for `PAUSE`. A dead thread takes nothing."""
        if self._thread.is_alive():
            try:
                self._inbox.put(item, timeout=PAUSE)
            except queue.Full:
                return False
        return True

    def _raise(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            try:
                raise error
            finally:
                del error  # else its traceback and this frame keep each other, and the chunk's tensors, alive
