"""Several ranks of one film on this machine, for tests: processes that begin as copies of this one, where they can."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist

from gf_core.team import Team

COPIES = "fork" in multiprocessing.get_all_start_methods() and not torch.backends.cuda.is_built()
"""Whether ranks begin as copies, which have torch imported; a torch for cards, there or not, computes no gradients in a
copy of a process that has computed some."""
KIND = "fork" if COPIES else "spawn"


def lead(count: int, folder: Path, work: Callable[[Team], object], serve: Callable[[Team], None]) -> object:
    """What `work` gives on the first of `count` ranks, while the others do `serve`; every rank must end well."""
    context = multiprocessing.get_context(KIND)
    ranks = [
        context.Process(target=_rank, args=(n, count, folder, work if not n else serve)) for n in range(count)
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(100)
        if rank.is_alive():
            rank.kill()
    assert [rank.exitcode for rank in ranks] == [0] * count
    return torch.load(folder / "found.pt", weights_only=False)


def _rank(rank: int, count: int, folder: Path, work: Callable[[Team], object]) -> None:
    torch.set_num_threads(1)  # a copy has none of the threads that its first process had
    if sys.platform == "linux":
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # whatever the machine is called
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=count)
    team = Team(rank, count, torch.device("cpu"))
    found = work(team=team)
    if team.first:
        torch.save(found, folder / "found.pt")
    team.end()
    os._exit(0)  # gloo's threads may still hold tensors, and abort an interpreter that goes down
