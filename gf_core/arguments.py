"""Words of a command line as values: whole numbers and sizes, refused with what they have to be."""

from __future__ import annotations

import argparse
from typing import Any

MANY = 100_000
"""Larger than any number that is meant."""


def size(text: str) -> tuple[int, int]:
    """`832x480` as (width, height)."""
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"'{text}' is not a size such as 832x480")
    if not all(16 <= int(side) <= 8192 for side in (width, height)):
        raise argparse.ArgumentTypeError(f"'{text}' is not between 16 and 8192 pixels wide and high")
    return int(width), int(height)


def number(smallest: int, largest: int, **words: Any) -> dict[str, Any]:
    """A whole number in that range, as argparse wants it, with `words` for the rest."""

    def read(text: str) -> int:
        if not (text.isdecimal() and smallest <= int(text) <= largest):
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from {smallest} to {largest}")
        return int(text)

    return {"type": read, "metavar": "N", **words}
