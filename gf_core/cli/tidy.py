"""`grounded tidy`: the films of a Take's old runs make room."""

from __future__ import annotations

from argparse import Namespace

from ..engine.budget import size
from ..engine.take import Take, runs_in
from ..engine.tidy import tidy as tidy_take
from ..errors import TakeError


def tidy(args: Namespace) -> int:
    """Remove them and say how much it was."""
    if not runs_in(args.folder):
        raise TakeError(f"there is no Take at {args.folder}", "give its folder, such as takes/film")
    with Take.open(args.folder) as take:
        done = tidy_take(take, args.keep)
    what = f"{', '.join(done.removed)}: {size(done.freed)} freed" if done.removed else "nothing to remove"
    print(f"{what}; films kept: {done.kept}")
    return 0
