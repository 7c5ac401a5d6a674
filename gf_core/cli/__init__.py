"""The `grounded` command line: the storyboard language without a host program.

From arguments to a command and an exit status: 0 done, 2 refused in words, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from importlib import import_module

from .parser import COMMANDS, build_parser
from .terminal import REFUSED, safe_output, status_of

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
    module, name = COMMANDS[args.command].run.split(":")
    return status_of(lambda: getattr(import_module(f".{module}", __name__), name)(args))
