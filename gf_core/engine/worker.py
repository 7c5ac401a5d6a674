"""Two worker threads beside the sampler, with a short queue in front: work overlaps, memory stays bounded."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

Item = TypeVar("Item")
Half = TypeVar("Half")
Result = TypeVar("Result")

log = logging.getLogger("grounded")

DEPTH = 2
"""Items that may wait, the one between the threads counted; with the one in work and the one being sampled, four chunks
exist at most."""
PAUSE = 0.1
"""Seconds that a call waits before it gives its caller a turn."""


class Worker(Generic[Item, Half, Result]):
    """Runs `first` on items in order, in its own thread, and `then` on what that gives, in another; a result of None is
    not passed on.

    The first error of either is raised by `results` or `finish`, after what was finished before it; items behind it are
    processed all the same, so it is for them to know what they still can do. `close` must be called in the end, in a
    `finally`.
    """

    def __init__(
        self, first: Callable[[Item], Half], then: Callable[[Half], Result | None], name: str
    ) -> None:
        """Raises RuntimeError where the system starts no more threads, before anything is handed over."""
        self._first, self._then = first, then
        self._pool, self._second = ThreadPoolExecutor(1, name), ThreadPoolExecutor(1, f"{name}-second")
        # A pool's thread begins with its first call, and one that cannot begin would leave what is handed over waiting.
        for pool in (self._pool, self._second):
            pool.submit(int)
        self._room = threading.Semaphore(DEPTH + 1)  # and the one in work
        self._ahead = threading.Semaphore(1)  # the first thread is an item ahead of the second, not more
        self._pending: deque[Future[Result | None]] = deque()
        self._failed = False

    def offer(self, item: Item, pause: float = PAUSE) -> bool:
        """Queue an item; False when there was no room within `pause` seconds."""
        if not self._room.acquire(timeout=pause):
            return False
        self._submit(item).add_done_callback(lambda _: self._room.release())
        return True

    def _submit(self, item: Item) -> Future[Result | None]:
        future: Future[Result | None] = Future()
        self._pool.submit(self._begin, [(item, future)])
        self._pending.append(future)
        return future

    # What is handed over lies in a list that who takes it empties: an error's frames lead to the call's arguments, and
    # the future to the error, so that they would keep each other, and the chunk's tensors, alive.

    def _begin(self, handed: list[tuple[Item, Future[Result | None]]]) -> None:
        """In the first thread, which hands on to the second itself: Ctrl-C meets whoever submits at any place, and a
        half that nobody takes would keep the first thread waiting."""
        self._ahead.acquire()
        item, future = handed.pop()
        begun: Future[Half] = Future()
        try:
            begun.set_result(self._first(item))
        except BaseException as error:
            begun.set_exception(error)
        further = [(begun, future)]
        try:
            self._second.submit(self._end, further)
        except BaseException as error:
            further.clear()  # whether it was queued or not, the second thread has nothing to do with it
            self._second.shutdown(wait=False)  # nor with what lies behind the gap
            self._ahead.release()
            future.set_exception(error)
        del item, begun, future, further

    def _end(self, handed: list[tuple[Future[Half], Future[Result | None]]]) -> None:
        begun, future = handed.pop()
        self._ahead.release()
        try:
            future.set_result(self._then(begun.result()))
        except BaseException as error:
            future.set_exception(error)
        del begun, future

    def prepare(self, work: Callable[[], object]) -> Future[object]:
        """Do `work` in the first thread before the items that follow; whatever it raises is for them to meet again."""
        return self._pool.submit(work)

    def results(self) -> Iterator[Result]:
        """What was finished since the last call; never waits. Raises the worker's error after the last of it."""
        while self._pending and self._pending[0].done():
            future = self._pending.popleft()
            try:
                result = future.result()
            except BaseException as error:
                if not self._failed:
                    self._failed = True
                    raise
                # The first says what happened.
                log.debug("after a failure: %s: %s", type(error).__name__, error)
                continue
            finally:
                # Else it, its error and this frame keep each other, and the chunk's tensors, alive.
                del future
            if result is not None:
                yield result

    def finish(self, tick: Callable[[], None] = lambda: None) -> Iterator[Result]:
        """Yield the rest of the results as they come, and call `tick` every `PAUSE` meanwhile.

        Raises the worker's error, and what `tick` raises.
        """
        while self._pending:
            wait([self._pending[0]], PAUSE)
            yield from self.results()
            if self._pending:
                tick()

    def close(self, rest: Sequence[Item] = ()) -> None:
        """End the threads, after the queued items and `rest`. May be called twice. Raises nothing."""
        for item in rest:
            self._submit(item)
        self._pool.shutdown()
        self._second.shutdown()
