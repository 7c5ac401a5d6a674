"""Failures of the machine, said in words: out of memory on a card or in the computer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from ..errors import ResourceError

FIX = "make the picture smaller, keep fewer frames in memory, use a smaller decoder, or close other programs"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a card or the computer had too little memory; torch says the latter by a plain RuntimeError."""
    full = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return full or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error))


@contextlib.contextmanager
def in_words(doing: str) -> Iterator[None]:
    """Turn an out-of-memory error met while `doing` something into a ResourceError; let all others pass."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise ResourceError(f"the graphics card ran out of memory while {doing}", FIX) from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ResourceError(f"the computer ran out of memory while {doing}", FIX) from error
