"""A command on several ranks, as torchrun starts them: the first does it and speaks, the others follow."""

from __future__ import annotations

import logging
import signal
from argparse import Namespace
from collections.abc import Callable

from ..engine.follow import follow
from ..errors import ResourceError
from ..team import Team, join, leave
from .terminal import status_of


def in_team(args: Namespace, command: Callable[[Namespace, Team | None], int]) -> int:
    """Do `command` here, or as torchrun says; then this process ends with the exit status."""
    team = join(args.device)
    if team is None:
        return command(args, None)

    def lead() -> int:
        args.device = str(team.device)
        return command(args, team)

    def stand_by() -> int:
        logging.getLogger("grounded").setLevel(logging.ERROR)  # the first has said the rest
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends when the first one does
        try:
            follow(team)
        except RuntimeError as error:
            raise ResourceError(f"rank {team.rank}: {str(error).splitlines()[0]}") from error
        return 0

    def here() -> int:
        try:
            return lead() if team.first else stand_by()
        finally:
            team.end()

    leave(status_of(here))
