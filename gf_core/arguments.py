"""What reads a command line, and its words as values: whole numbers and sizes, refused with what they have to be."""

from __future__ import annotations

import argparse
import difflib
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from .errors import GroundedError
from .words import counted

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


def whole_chunks(frames: int, chunk: int) -> None:
    """Raises GroundedError unless a film of so many latent frames is of whole chunks."""
    if frames % chunk:
        raise GroundedError(
            f"a film of {counted(frames, 'latent frame')} is of no whole chunks",
            f"give --frames as a multiple of {chunk}, such as {-(-frames // chunk) * chunk}",
        )


def shared_out(batch: int, ranks: int, each: int = 1) -> int:
    """How often `ranks` ranks make `each` films for a step of `batch`. Raises GroundedError unless it is whole."""
    if batch % (ranks * each):
        raise GroundedError(
            f"{counted(batch, 'film')} in a step cannot be shared out by {counted(ranks, 'rank')}, {each} at a time",
            f"give --batch as a multiple of {ranks * each}",
        )
    return batch // (ranks * each)


class Parser(ArgumentParser):
    """Of a command: what it is given is refused with what was most likely meant, and help keeps its lines."""

    def __init__(self, **kwargs) -> None:
        super().__init__(formatter_class=_Help, allow_abbrev=False, **kwargs)

    def parse_known_args(self, *given: Any, **words: Any) -> Any:
        """A command refuses by itself what it does not know, so that its own usage is shown and not the program's."""
        found, unknown = super().parse_known_args(*given, **words)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}", self._meant(unknown, found))
        return found, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            near = difflib.get_close_matches(str(value), map(str, action.choices or ()), 1)
            self.error(str(error), f"did you mean {near[0]}?" if near else "")

    def error(self, message: str, fix: str = "") -> NoReturn:
        """End with what is wrong; `fix` says what to do, where that is known."""
        if not fix and message.startswith("the following arguments are required"):
            fix = f"{self.prog} --help says what they are, with examples"
        super().error(message + (f"\n  fix: {fix}" if fix else ""))

    def _meant(self, unknown: Sequence[str], found: argparse.Namespace) -> str:
        """What was most likely meant by words that nothing takes; empty where that is not known."""
        for word in unknown:
            if word.startswith("-"):
                near = difflib.get_close_matches(word.partition("=")[0], self._option_string_actions, 1)
                return f"did you mean {near[0]}?" if near else "--help lists the options"
        for name in filter(
            None, (getattr(found, key, None) for key in ("storyboard", "film", "source", "file"))
        ):
            whole = " ".join((str(name), *unknown))
            if Path(whole).exists():
                return f"a name with blanks stands in quotes: '{whole}'"
        return "a name with blanks stands in quotes, such as 'my film.txt'"


class _Help(RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=110)
