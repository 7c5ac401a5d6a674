"""The errors a person can meet. Each says what is wrong, where, and what to do about it."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from .words import UNFIT, plain

RIGHTS = (errno.EACCES, errno.EPERM, errno.EROFS)
"""Errors of who may not do what was tried."""
REFUSED, STOPPED = 2, 130
"""Exit statuses of a command: an error said in words, and Ctrl-C."""


class GroundedError(Exception):
    """Base of every error raised on purpose: `message` is what and where, `fix` is what to do."""

    def __init__(self, message: str, fix: str = "") -> None:
        # What was quoted from a file must not steer a terminal; the lines of a message are its own.
        self.message, self.fix = ("\n".join(map(plain, text.split("\n"))) for text in (message, fix))
        super().__init__(self.message)

    @property
    def place(self) -> str:
        """Where in a text, as it stands in front of the message; empty where there is none."""
        return ""

    @property
    def row(self) -> str:
        """All of it but the text, as a row of a table takes it."""
        return f"{self.place}{self.message}" + (f"; fix: {self.fix}" if self.fix else "")

    def __str__(self) -> str:
        return f"{self.message}\n  fix: {self.fix}" if self.fix else self.message


class StoryboardError(GroundedError):
    """The timeline text cannot be read; carries the 1-based `line` and `column` of the first wrong character.

    line: 0 where none is at fault. column: by default the first.
    """

    def __init__(
        self, message: str, fix: str = "", *, line: int = 0, column: int = 1, text: str = ""
    ) -> None:
        super().__init__(message, fix)
        self.line = line
        self.column = column if line else 0
        # A tab would move the pointer away from its character, and a terminal obeys control characters.
        self.text = UNFIT.sub("\ufffd", text.replace("\t", " "))
        self.file = ""

    @property
    def place(self) -> str:
        return f"line {self.line}, column {self.column}: " if self.line else ""

    def name_file(self, name: str) -> None:
        """Say that the line is in the file `name`, where nobody has said it yet."""
        if self.line and not self.file:
            self.file, self.message = name, f"{self.message} (in {name})"

    def __str__(self) -> str:
        # Of a very long line only the part around the character is shown.
        start = max(0, self.column - 100) if len(self.text) > 200 else 0
        shown, at = self.text[start : start + 200], self.column - start
        pointer = f"\n  {shown}\n  {' ' * (at - 1)}^" if shown and self.column else ""
        return f"{self.place}{self.message}{pointer}" + (f"\n  fix: {self.fix}" if self.fix else "")


class CheckpointError(GroundedError):
    """A model file is missing, damaged, unsafe, or not what the engine can drive."""


class PromptError(StoryboardError):
    """A prompt cannot be encoded, e.g. it holds unknown words; with line and column where they are known."""


class ResourceError(GroundedError):
    """Not enough memory, disk or table space for what was asked."""


class TakeError(GroundedError):
    """The run folder cannot be used: in use by another process, damaged, read-only or deleted."""


class InUseError(TakeError):
    """Somebody renders into the Take; what is to be made of it can be had later."""


def reason(error: BaseException) -> str:
    """What `error` says, without the number and the address that the system, or a library like it, puts around it."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a card or the computer had too little memory; torch and threads say the latter by a RuntimeError."""
    if isinstance(error, MemoryError) or is_card_full(error):
        return True
    said = ("DefaultCPUAllocator", "can't start new thread")
    return isinstance(error, RuntimeError) and any(words in str(error) for words in said)


def is_card_full(error: BaseException) -> bool:
    """Whether it is the error by which torch says that a card has too little memory."""
    torch = sys.modules.get("torch")  # what was not imported has raised nothing
    return torch is not None and isinstance(error, torch.OutOfMemoryError)


HEADLESS = "pip install 'diffusers<0.40' transformers sentencepiece ftfy"
"""How to get the packages that only the command line needs."""


@contextmanager
def installed(what: str = "", fix: str = "") -> Iterator[None]:
    """Around what imports packages when it is first used: one that is missing is said in words, and that `what` needs
    it; `fix` where it is not got by its name alone.

    Raises GroundedError: which, and how to get it. A module of our own that is missing is a fault, and stays one.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name in ("", __name__.partition(".")[0]):
            raise
        package = {"PIL": "pillow"}.get(name, name)
        said = f"{what} needs the package {package}, which" if what else f"the package {package}"
        fix = fix or f"install it with the Python that runs this: pip install {package}"
        raise GroundedError(f"{said} is not installed", fix) from error
