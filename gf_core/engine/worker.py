"""One worker thread beside the sampler, with a short queue in front: work overlaps, memory stays bounded."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

log = logging.getLogger("grounded")

DEPTH = 2
"""Items that may wait; with the one in work and the one being sampled, four chunks exist at most."""
PAUSE = 0.1
"""Seconds that a call waits before it gives its caller a turn."""


class Worker(Generic[Item, Result]):
    """Runs `process` on items in order, in its own thread; a result of None is not passed on.

    The first error of `process` is raised by the next `offer`, `results` or `finish`; items behind it are processed all
    the same, so it is for `process` to know what it still can do. `close` must be called in the end, in a `finally`.
    """

    def __init__(self, process: Callable[[Item], Result | None], name: str, depth: int = DEPTH) -> None:
        self._process = process
        self._inbox: queue.Queue[Item | None] = queue.Queue(depth)
        self._outbox: queue.SimpleQueue[Result] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._failed = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while (item := self._inbox.get()) is not None:
            try:
                result = self._process(item)
                if result is not None:
                    self._outbox.put(result)
            except BaseException as error:
                if self._failed:  # the first one says what happened
                    log.debug("after a failure: %s: %s", type(error).__name__, error)
                else:
                    self._failed, self._error = True, error
            result = item = None  # or the last chunk would stay alive until the next one comes

    def offer(self, item: Item, timeout: float = PAUSE) -> bool:
        """Queue an item; False when there was no room within `timeout` seconds. Raises the worker's error."""
        self._raise()
        if not self._thread.is_alive():
            raise RuntimeError("offer after close")
        try:
            self._inbox.put(item, timeout=timeout)
        except queue.Full:
            return False
        return True

    def results(self) -> Iterator[Result]:
        """What was finished since the last call; never waits. Raises the worker's error after the last of it."""
        while True:
            failed = (
                self._error is not None
            )  # asked first: what was finished before the error is there by then
            try:
                yield self._outbox.get_nowait()
            except queue.Empty:
                if failed:
                    self._raise()
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

    def close(self, rest: Sequence[Item] = ()) -> None:
        """End the thread, after the queued items and `rest`. May be called twice. Raises nothing."""
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
