"""A command on several ranks, as torchrun starts them: the first does it and speaks, the others follow."""

from __future__ import annotations

import logging
import os
import signal
from argparse import Namespace
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING

from ..errors import ResourceError
from .terminal import status_of

if TYPE_CHECKING:
    from ..team import Team

LAUNCHED = "TORCHELASTIC_RUN_ID"
"""What torchrun tells all that it starts."""
Command = Callable[[Namespace, "Team | None"], int]


def in_team(command: Command) -> Callable[[Namespace], int]:
    """`command` done here, or as torchrun says; then this process ends with the exit status."""

    @wraps(command)
    def here(args: Namespace) -> int:
        if LAUNCHED not in os.environ:  # or torch would be imported to find that out
            return command(args, None)
        from ..team import join, leave

        team = join(args.device)
        if team is None:
            return command(args, None)
        leave(status_of(lambda: _on_rank(command, args, team), args))

    return here


def _on_rank(command: Command, args: Namespace, team: Team) -> int:
    try:
        if team.first:
            args.device = str(team.device)
            return command(args, team)
        logging.getLogger("grounded").setLevel(logging.ERROR)  # the first has said the rest
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends when the first one does
        from ..engine.follow import follow

        try:
            follow(team)
        except RuntimeError as error:
            raise ResourceError(f"rank {team.rank}: {str(error).splitlines()[0]}") from error
        return 0
    finally:
        team.end()
