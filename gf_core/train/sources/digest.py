"""Which data a training learns from, as a hash: the same wherever they lie, another one for other data."""

from __future__ import annotations

import hashlib

from .base import Source
from .prompts import Prompts

LOOKED_AT = 8
"""Samples of data with latents that are read for it, spread evenly; all of them would take as long as an epoch."""


def digest_of(source: Source) -> str:
    """Hex digest of how many samples there are, and of what is in them: of all prompts of a text file, of LOOKED_AT
    samples of anything else. Raises GroundedError where one of those is damaged."""
    count = len(source)
    some = range(count) if isinstance(source, Prompts) else _spread(count)
    found = hashlib.sha256(str(count).encode())
    for number in some:
        sample = source[number]
        found.update(repr((number, sample.prompt, sample.then, sample.cues)).encode("utf-8", "surrogatepass"))
        if sample.states is not None:
            found.update(repr(tuple(sample.states.shape)).encode())
            found.update(sample.states.contiguous().numpy().data)
    return found.hexdigest()


def _spread(count: int) -> list[int]:
    most = min(count, LOOKED_AT)
    return sorted({number * (count - 1) // max(1, most - 1) for number in range(most)})
