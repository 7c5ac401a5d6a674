"""`grounded inspect`: what is this checkpoint, and what does it want?"""

from __future__ import annotations

from argparse import Namespace

from .settings import model_file


def inspect(args: Namespace) -> int:
    """Print the report of one file."""
    from ..checkpoints.inspect import inspect_file

    print(inspect_file(model_file(args.file), assume=args.assume))
    return 0
