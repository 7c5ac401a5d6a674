"""The `grounded` command line: the storyboard language without a host program.

From arguments to a command and an exit status: 0 done, 2 refused in words, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from ..errors import GroundedError, reason
from .parser import COMMANDS, build_parser
from .settings import INTERRUPTED, REFUSED
from .terminal import safe_output

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status. Errors that a person can mend are printed without a traceback."""
    with safe_output():
        return _run(argv)


def _run(argv: Sequence[str] | None) -> int:
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help(sys.stderr)
        return REFUSED
    logging.basicConfig(format="%(message)s")
    logging.getLogger("grounded").setLevel(logging.INFO)
    try:
        module, name = COMMANDS[args.command].run.split(":")
        return getattr(import_module(f".{module}", __name__), name)(args)
    except GroundedError as error:
        print(f"grounded: {error}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print("grounded: stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        name = error.filename2 or error.filename  # of a renaming, what it was to be called
        place = f"{str(name)[:200]}: " if name else ""
        print(f"grounded: {place}{reason(error)}", file=sys.stderr)
        return REFUSED
