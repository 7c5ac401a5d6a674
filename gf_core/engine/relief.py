"""What is done when memory runs out: once per kind of work it is made smaller and tried again, to the same bits.

From the first time on, sampling and decoding take turns in place of going on side by side, so that only one of them
needs room at a time. Decoding goes a latent frame at a time as well; prompts and encoding are tried again once what
nobody holds any more was given back. Each step is one line in the log and one in the report.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import logging
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from ..errors import ResourceError, is_card_full, is_out_of_memory

log = logging.getLogger("grounded")
Result = TypeVar("Result")

FIX = "make the picture smaller, keep fewer frames in memory, use a smaller decoder, or close other programs"
STEPS = {
    "text": "what was cached is given back",
    "given pictures": "what was cached is given back",
    "sampling": "from here on it samples and decodes in turn",
    "decoding": "from here on it decodes in turn with the sampling, a latent frame at a time",
    "encoding": "what was cached is given back",
}
"""Kind of work -> what is done about it."""


class Relief:
    """Shared by the sampler's and the worker's threads of one render."""

    def __init__(self) -> None:
        self.told: list[str] = []
        """What was done, in words."""
        self._taken: set[str] = set()
        self._apart = False
        # Always taken in this order; a thread alone holds its own, and both once they take turns.
        self._sampler, self._decoder = threading.Lock(), threading.Lock()

    @contextlib.contextmanager
    def sampling(self) -> Iterator[None]:
        """Around the network's calls for a chunk."""
        with self._sampler, self._decoder if self._apart else contextlib.nullcontext():
            yield

    @contextlib.contextmanager
    def decoding(self) -> Iterator[None]:
        """Around the decoding of a chunk."""
        with self._sampler if self._apart else contextlib.nullcontext(), self._decoder:
            yield

    def retried(
        self, kind: str, doing: str, work: Callable[[], Result], again: Callable[[], Result] | None = None
    ) -> Result:
        """What `work` gives; where memory runs out the first time in this kind of work, what `again`, or `work`, gives.

        kind: one of `STEPS`. doing: `decoding chunk 4`. Raises what the second try raises, and other errors of `work`.
        """
        try:
            return work()
        except (MemoryError, RuntimeError) as error:  # that of torch is one of the latter
            if kind in self._taken or not is_out_of_memory(error):
                raise
            why = f"{type(error).__name__}: {error}".splitlines()[0]
        # Outside of the except block: the error holds the failed work's tensors.
        self._taken.add(kind)
        self._apart = self._apart or kind in ("sampling", "decoding")
        self.told.append(f"memory ran out while {doing}: {STEPS[kind]}")
        log.warning("%s (%s)", self.told[-1], why)
        give_back()
        return (again or work)()


def give_back() -> None:
    """Return to the card, and to the computer, what nobody holds any more."""
    import torch

    from ..devices import trim_memory  # with numpy, which the command's help does without

    gc.collect()
    trim_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextlib.contextmanager
def in_words(doing: str) -> Iterator[None]:
    """Turn too little memory, or too many open files, met while `doing` something into a ResourceError.

    All other errors pass.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        place = "graphics card" if is_card_full(error) else "computer"
        raise ResourceError(f"the {place} ran out of memory while {doing}", FIX) from error
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        fix = "close other programs, or raise the limit (ulimit -n), then run again"
        raise ResourceError(f"no more files may be opened while {doing}", fix) from error
