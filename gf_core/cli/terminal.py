"""The process that a command runs in: its output, made fit for whatever is written to it, its status, its garbage."""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import os
import re
import shutil
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from ..engine.relief import in_words
from ..errors import REFUSED, RIGHTS, STOPPED, GroundedError, installed, reason
from ..words import plain


@contextlib.contextmanager
def safe_output() -> Iterator[None]:
    """Inside the block nothing that is printed can fail or steer a terminal.

    Signs that the code page does not have are spelled out: a film is not lost over its name in a log.
    """
    for handle in range(
        3
    ):  # one that is closed would be given to the next file, and a library's notes go into 2
        try:
            os.fstat(handle)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    with contextlib.ExitStack() as shown:
        both = (sys.stdout, contextlib.redirect_stdout), (sys.stderr, contextlib.redirect_stderr)
        for stream, redirect in both:
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
            if stream is None:  # a service has none, or they are closed
                nothing = shown.enter_context(open(os.devnull, "w", encoding="utf-8"))
                shown.enter_context(redirect(nothing))
            elif stream.isatty():
                shown.enter_context(redirect(Terminal(stream)))  # type: ignore[type-var]  # it has what print needs
        yield


def status_of(command: Callable[[], int], args: Namespace) -> int:
    """Exit status of a command with `args`; errors that a person can mend are printed without a traceback."""
    from .files import named

    try:
        with named(args), installed(), in_words("running this command"):
            return command()
    except GroundedError as error:
        print(f"grounded: {error}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print("grounded: stopped", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:  # the reader of our output, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        name = error.filename2 or error.filename  # of a renaming, what it was to be called
        place = f"{str(name)[:200]}: " if name else ""
        fix = "check your rights there, or choose another place" if error.errno in RIGHTS else ""
        print(f"grounded: {GroundedError(f'{place}{reason(error)}', fix)}", file=sys.stderr)
        return REFUSED


@contextlib.contextmanager
def lasting(begin: bool = False) -> Iterator[None]:
    """What is imported and opened inside the block stays to the end, so the collector is stopped, and leaves it out.

    It looked through all of torch while that was imported, and again as the process ended: 0.3 s of a command, idle
    (docs/benchmarks/2026-11-27-cpu.md). Only where the process is the command's own, which the first block says
    (`begin`): whoever calls a command from Python keeps what is theirs.
    """
    if not (begin or gc.get_freeze_count()):
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def end_at_once(status: Sequence[int]) -> None:
    """End the process with `status`, its one number, without taking down torch piece by piece: 0.1 s.

    To be called when all else that is done at the end is done. Without a status, as after an error that is shown with
    its traceback, or where nobody reads the last output, it does nothing, and Python ends as it does.
    """
    if not status:
        return
    with contextlib.suppress(OSError, ValueError):
        logging.shutdown()
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
        os._exit(status[0])


def own_name() -> str:
    """What calls this program from where we are: `grounded`, or the path of one that is not on the search path."""
    called = Path(sys.argv[0])
    if called.stem != "grounded" or shutil.which("grounded") or not called.is_file():
        return "grounded"
    with contextlib.suppress(ValueError):  # elsewhere
        return str(called.absolute().relative_to(Path.cwd()))
    return str(called)


def print_text(text: str) -> None:
    """Print a storyboard, which is UTF-8 wherever it lies: a file that the output goes to can be rendered."""
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
        sys.stdout.reconfigure(encoding="utf-8")
    print(text, end="" if text.endswith("\n") else "\n")


class Terminal:
    """A terminal on which no text steers anything: what came from a film or a file is shown, not obeyed."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """`text` with the signs spelled out that a terminal obeys, but for tabs and ends of lines."""
        parts = re.split(r"([\n\r\t])", text)
        return self._stream.write("".join(part if part in "\n\r\t" else plain(part) for part in parts))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
