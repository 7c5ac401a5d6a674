"""What a rank does that does not lead: open the network and carry out the orders of the one that does.

It sees no storyboard and no Take, and says nothing but what goes wrong with it.
"""

from __future__ import annotations

import torch

from ..checkpoints.networks import Networks, load_networks
from ..sampling.sampler import Sampler
from ..sampling.wave import MOVES
from ..team import Team


@torch.no_grad()
def follow(team: Team, networks: Networks | None = None) -> None:
    """Returns when the first rank has nothing more to do.

    Orders are `load` (arguments of `load_networks`), `make` (of `Networks.sampler`, and on how many threads), and
    methods of a `Director` or of a `Wave`.

    Raises Exception: an order failed here; the others notice by this process's end.
    """
    sampler: Sampler | None = None
    while (order := team.hear()) is not None:
        name, args, kwargs = order
        if name == "load":
            with team.agreed():
                networks = load_networks(*args, **kwargs, device=team.device)
        elif name == "make" and networks is not None:
            sampler = None  # two memories may be too many
            if threads := kwargs.pop("threads", 0):
                torch.set_num_threads(threads)
            with team.agreed():
                sampler = networks.sampler(*args, **kwargs, device=team.device, team=team)
        elif sampler is not None:
            getattr(sampler if name in MOVES else sampler.director, name)(*args, **kwargs)
