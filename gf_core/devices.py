"""Where torch computes: a device's name, what is free on it, and what this process holds of the computer's memory."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from .errors import ResourceError
from .words import exact_size

if TYPE_CHECKING:
    import torch

log = logging.getLogger("grounded")

ASKING = 0.1
"""Seconds between two questions of who waits whether there is still something to wait for."""
_COUNTED = threading.RLock()
"""Held by whoever has settled on how many threads sums are computed."""
_held: tuple[int, int] | None = None
"""Which thread of Python that is, and on how many threads sums are computed otherwise."""


def vectors() -> dict[str, list[str]]:
    """Sets of instructions of the processor, as numpy calls them: `found` here beyond those that it was built for."""
    try:
        told: Any = np.show_config(mode="dicts")
        return told.get("SIMD Extensions", {})
    except TypeError:  # numpy 1.25 says it to people only
        has = np.core._multiarray_umath.__cpu_features__  # type: ignore[attr-defined]
        return {"found": [name for name in has if has[name]]}


def name_of(device: torch.device) -> str:
    """The card's own name, or `cpu`."""
    if device.type != "cuda":
        return device.type
    import torch

    return torch.cuda.get_device_name(device)


def pick_device(name: str | None, fix: str = "use --device cpu") -> torch.device:
    """The device called `name`, or the best one here.

    Raises ResourceError: this machine has no such device; `fix` says what to do.
    """
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch raises either, by device
        reason = str(error).splitlines()[0].split(". ")[0]
        raise ResourceError(f"device '{name}' cannot be used: {reason}", fix) from error
    return device


def now(device: torch.device) -> float:
    """Seconds on a clock, once all that the device was given is done."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


def computed(value: torch.Tensor) -> Callable[[], None]:
    """A call that waits, in any thread, until `value` is there, which a card computes after it is asked for."""
    if not value.is_cuda:
        return lambda: None
    import torch

    # Blocking: whoever waits leaves its core to others.
    event = torch.cuda.Event(blocking=True)
    event.record(torch.cuda.current_stream(value.device))
    return event.synchronize


def free_bytes(device: torch.device) -> int:
    """Bytes free on the device: on a card, else in the computer."""
    if device.type != "cuda":
        return psutil.virtual_memory().available
    import torch

    return torch.cuda.mem_get_info(device)[0]


def card_peak() -> int | None:
    """Most bytes that torch has held on a card; None where there is none."""
    torch = sys.modules.get("torch")  # what was not imported has held nothing
    return torch.cuda.max_memory_allocated() if torch is not None and torch.cuda.is_available() else None


def threads() -> int:
    """On how many threads a sum is computed on the processor, whatever a film beside this one is computed on."""
    import torch

    # A thread of Python that first computed beside a film has that film's; a new one has the process's.
    found = list[int]()
    new = threading.Thread(target=lambda: found.append(torch.get_num_threads()), name="grounded-counting")
    new.start()
    new.join()
    held = _held  # looked at once, and behind the count: a film may begin or end meanwhile
    if held is None:
        return found[0]
    holder, outside = held
    return torch.get_num_threads() if holder == threading.get_ident() else outside


@contextlib.contextmanager
def on_threads(count: int, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Compute sums on the processor on `count` threads, here and in the threads of Python that are begun inside.

    The number is the process's, so what is inside in another thread of Python is waited for, which a line of the log
    says. 0 leaves all as it is.

    waiting: called ten times a second meanwhile; what it raises ends the wait.
    """
    global _held
    if not count:
        yield
        return
    if not _COUNTED.acquire(blocking=False):
        log.info("waiting for another film that this program computes on the processor")
        while not _COUNTED.acquire(timeout=ASKING):
            waiting()
    try:
        before, outermost = threads(), _held is None
        if outermost:
            _held = threading.get_ident(), before
        try:
            _set_threads(count)
            yield
        finally:
            _set_threads(before)
            if outermost:
                _held = None
    finally:
        _COUNTED.release()


def _set_threads(count: int) -> None:
    import torch

    if count != torch.get_num_threads():  # asking alone makes threads anew
        torch.set_num_threads(count)


def held_bytes() -> int:
    """Bytes of memory that this process holds and the system cannot take back.

    Resident pages without those of mapped files (weights that were read, libraries), which the system drops when it
    wants them. Linux tells them apart at no cost; elsewhere it is the memory that no other process shares.
    """
    process = psutil.Process()
    info = process.memory_info()
    mapped = getattr(info, "shared", None)
    return process.memory_full_info().uss if mapped is None else info.rss - mapped


def trim_memory() -> None:
    """Give the system the pages that the C library keeps for threads and for what comes next; glibc alone can."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


def require_memory(need: int, device: torch.device, what: str, fix: str) -> None:
    """Refuse before it is read what cannot fit.

    Raises ResourceError: `what` needs more bytes than are free on the device; `fix` says what to do.
    """
    if device.type not in ("cuda", "cpu"):
        return  # other accelerators do not tell how much is free
    free = free_bytes(device)
    if need > free:
        place = "computer" if device.type == "cpu" else "graphics card"
        raise ResourceError(f"{what} needs {exact_size(need)}; the {place} has {exact_size(free)} free", fix)
