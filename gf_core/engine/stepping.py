"""A function that pushes values, turned into an iterator of them.

Denoising reports its steps through a callback, and a generator cannot yield from inside one. So the pushing function
runs in a thread of its own that moves only while the consumer waits for the next value: at any time one of the two
runs, never both, and what the consumer sees is an ordinary generator that can be stepped and closed.
"""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")
log = logging.getLogger("grounded")


class Closed(BaseException):
    """Raised inside the pushing function when its consumer went away; lets it clean up and end."""


def iterate(push: Callable[[Callable[[T], None]], None], name: str) -> Iterator[T]:
    """Yield what `push(emit)` emits, in order; an exception of `push` is raised here.

    Closing the iterator makes the `emit` that is waiting (or the next one) raise `Closed` inside `push`, and returns
    when `push` has ended. `name` is the thread's.
    """
    go, ready = threading.Semaphore(0), threading.Semaphore(0)
    values: list[T] = []
    failures: list[BaseException] = []
    closed = threading.Event()

    def emit(value: T) -> None:
        if closed.is_set():
            raise Closed
        values.append(value)
        ready.release()
        go.acquire()
        if closed.is_set():
            raise Closed

    def body() -> None:
        try:
            push(emit)
        except Closed:
            pass
        except BaseException as error:
            failures.append(error)
        finally:
            ready.release()

    # The consumer's context variables hold for the work as well, as they would in a plain generator.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(body,), name=name, daemon=True)
    thread.start()
    try:
        while True:
            ready.acquire()
            if not values:
                break
            yield values.pop()
            go.release()
    except BaseException:
        closed.set()
        go.release()
        thread.join()
        for error in failures:
            log.warning("while stopping: %s: %s", type(error).__name__, error)
        raise
    thread.join()
    if failures:
        error = failures.pop()
        try:
            raise error
        finally:
            del error  # else its traceback and this frame keep each other, and the model's memory, alive
