"""From arguments to a command and an exit status: 0 done, 2 refused in words, 130 stopped by Ctrl-C."""

from __future__ import annotations

import logging
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence

from ..errors import GroundedError
from .parser import build_parser
from .settings import INTERRUPTED, REFUSED


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status. Errors that a person can mend are printed without a traceback."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help(sys.stderr)
        return REFUSED
    logging.basicConfig(format="%(message)s")
    logging.getLogger("grounded").setLevel(logging.INFO)
    try:
        return _COMMANDS[args.command](args)
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
        place = f"{str(error.filename)[:200]}: " if error.filename else ""
        print(f"grounded: {place}{error.strerror or error}", file=sys.stderr)
        return REFUSED


# Each command is imported when it is called: most need torch, which takes seconds to load.


def _render(args: Namespace) -> int:
    from .render import render

    return render(args)


def _plan(args: Namespace) -> int:
    from .plan import plan

    return plan(args)


def _takes(args: Namespace) -> int:
    from .takes import takes

    return takes(args)


def _pick(args: Namespace) -> int:
    from .takes import pick

    return pick(args)


def _tidy(args: Namespace) -> int:
    from .tidy import tidy

    return tidy(args)


def _inspect(args: Namespace) -> int:
    from .inspect import inspect

    return inspect(args)


def _bench(args: Namespace) -> int:
    from .bench import bench

    return bench(args)


def _train(args: Namespace) -> int:
    from ..train.recipes.builtin import main as train

    return train(args.rest)


def _evaluate(args: Namespace) -> int:
    from .evaluate import evaluate

    return evaluate(args)


def _open(args: Namespace) -> int:
    from .open import open_film

    return open_film(args)


def _export(args: Namespace) -> int:
    from .export import export

    return export(args)


def _drift(args: Namespace) -> int:
    from .drift import drift

    return drift(args)


_COMMANDS: dict[str, Callable[[Namespace], int]] = {
    "render": _render,
    "plan": _plan,
    "takes": _takes,
    "pick": _pick,
    "tidy": _tidy,
    "open": _open,
    "export": _export,
    "inspect": _inspect,
    "bench": _bench,
    "train": _train,
    "evaluate": _evaluate,
    "drift": _drift,
}
