"""`grounded inspect`: what is this checkpoint, and what does it want?"""

from __future__ import annotations

from argparse import Namespace


def inspect(args: Namespace) -> int:
    """Print the report of one file."""
    from ..checkpoints.inspect import inspect_file

    print(inspect_file(args.file))
    return 0
