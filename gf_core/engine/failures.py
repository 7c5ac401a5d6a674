"""Failures of the machine, said in words: out of memory on a card or in the computer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from ..errors import ResourceError

FIX = "make the picture smaller, keep fewer frames in memory, use a smaller decoder, or close other programs"


@contextlib.contextmanager
def in_words(doing: str) -> Iterator[None]:
    """Turn an out-of-memory error met while `doing` something into a ResourceError; let all others pass."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise ResourceError(f"the graphics card ran out of memory while {doing}", FIX) from error
    except MemoryError as error:
        raise ResourceError(f"the computer ran out of memory while {doing}", FIX) from error
    except RuntimeError as error:
        if "DefaultCPUAllocator" not in str(error):
            raise
        raise ResourceError(f"the computer ran out of memory while {doing}", FIX) from error
