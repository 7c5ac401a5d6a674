"""One worker thread beside the sampler, with a short queue in front: work overlaps, memory stays bounded."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

DEPTH = 2
"""Items that may wait; with the one in work and the one being sampled, four chunks exist at most."""


class Worker(Generic[Item, Result]):
    """Runs `process` on items in order, in its own thread.

    After `process` has raised, nothing more is processed and the error is raised by the next `offer` or `finish`.
    Results are picked up with `results`; `close` must be called in the end, in a `finally`.
    """

    def __init__(self, process: Callable[[Item], Result], name: str, depth: int = DEPTH) -> None:
        self._process = process
        self._inbox: queue.Queue[Item | None] = queue.Queue(depth)
        self._outbox: queue.SimpleQueue[Result] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            while (item := self._inbox.get()) is not None:
                self._outbox.put(self._process(item))
                del item  # or the last chunk would stay alive until the next one comes
        except BaseException as error:
            self._error = error

    def offer(self, item: Item, timeout: float = 0.05) -> bool:
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

    def finish(self) -> Iterator[Result]:
        """Take no more items; yield the rest of the results as they come. Raises the worker's error."""
        self._send_end()
        while self._thread.is_alive():
            self._thread.join(0.05)
            yield from self.results()
        yield from self.results()
        self._raise()

    def close(self) -> None:
        """Let the queued items be finished and end the thread; may be called twice. Raises nothing."""
        self._send_end()
        self._thread.join()

    def _send_end(self) -> None:
        while self._thread.is_alive():
            try:
                self._inbox.put(None, timeout=0.05)
                return
            except queue.Full:
                continue

    def _raise(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            try:
                raise error
            finally:
                del error  # else its traceback and this frame keep each other, and the chunk's tensors, alive
