"""The `grounded` command line: the storyboard language without a host program.

From arguments to a command and an exit status: 0 done, 2 refused in words, 130 stopped by Ctrl-C. All else is imported
inside, where Ctrl-C is answered.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NoReturn

from ..errors import REFUSED, STOPPED

__all__ = ["main", "program"]


SPINS = "1000"
"""Turns that a thread of a sum waits for the others before it sleeps: what libgomp itself takes where it knows of more
threads than processors. It does not know of the video encoder's, and its usual 300,000 turns keep the processor from
them: on two crowded cores six chunks took 6 s in place of more than 60 (docs/benchmarks/2026-11-26-cpu.md)."""


def program() -> NoReturn:
    """The command as a program: `main`, then the end of the process."""
    status = list[int]()
    try:
        from .terminal import end_at_once

        atexit.register(end_at_once, status)  # the first, so that it comes after all others
        status.append(main())
    except KeyboardInterrupt:  # no command had begun, which would say more
        print("grounded: stopped", file=sys.stderr)
        status.append(STOPPED)
    sys.exit(status[0])


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status. Errors that a person can mend are printed without a traceback."""
    if "OMP_WAIT_POLICY" not in os.environ:  # read once, when torch is imported
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    from .terminal import safe_output

    with safe_output():
        return _run(argv)


def _run(argv: Sequence[str] | None) -> int:
    from .parser import COMMANDS, build_parser
    from .terminal import status_of

    parser = build_parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help(sys.stderr)
        return REFUSED
    logging.basicConfig(format="%(message)s")
    logging.getLogger("grounded").setLevel(logging.INFO)
    run = COMMANDS[args.command].run
    return status_of(lambda: (_loaded(run) if argv is None else _found(run))(args), args)


def _found(run: str) -> Callable[..., Any]:
    """The function that runs a command, by `module:name`."""
    module, name = run.split(":")
    return getattr(import_module(f".{module}", __name__), name)


def _loaded(run: str) -> Callable[..., Any]:
    """The same in a process of the command's own: what it is made of stays to the end."""
    from .terminal import lasting

    with lasting(begin=True):
        return _found(run)
