"""Whose turn it is: an encoder takes no processor from everything else on the machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ordinary_turns() -> Iterator[None]:
    """Afterwards this thread, and those begun meanwhile, are scheduled as this one was before.

    Where it may, as an administrator may in a container, SVT-AV1 puts its threads and the one that opens it ahead of
    all else. Every process that is begun later would inherit that, and one that waits for another without sleeping
    would then keep a processor for good.
    """
    if sys.platform != "linux":
        yield
        return
    try:
        policy, place, there = os.sched_getscheduler(0), os.sched_getparam(0), _threads()
    except OSError:  # musl has no such calls, and /proc need not be there
        yield
        return
    try:
        yield
    finally:
        for thread in {0} | _threads() - there:
            _schedule(thread, policy, place)


def _threads() -> set[int]:
    return {int(name) for name in os.listdir("/proc/self/task")}


def _schedule(thread: int, policy: int, place: os.sched_param) -> None:
    """0 is the thread that calls."""
    try:
        if os.sched_getscheduler(thread) != policy:
            os.sched_setscheduler(thread, policy, place)
    except ProcessLookupError:  # it has ended
        return
