"""One process or several that train: the only place there that knows torch.distributed's groups and its sharding.

A rank is a processor core (gloo) or a card (nccl), started here or by torchrun. Ranks hold the whole module and average
their gradients, or each a part of it (`fsdp`).
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from typing import NoReturn

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.multiprocessing.spawn import ProcessException, start_processes

from .. import team
from ..errors import GroundedError, ResourceError
from ..model.layers import Own


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together; alone by default."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this rank writes files and logs."""
        return self.rank == 0

    def average(self, params: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the ranks, in one reduction; sharded ones are that already."""
        grads = [p.grad for p in params if p.grad is not None and not isinstance(p.grad, DTensor)]
        if self.count == 1 or not grads:
            return
        flat = torch.cat([g.flatten() for g in grads])
        dist.all_reduce(flat)
        flat /= self.count
        for g, mean in zip(grads, flat.split([g.numel() for g in grads])):
            g.copy_(mean.view_as(g))

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """The mean of the ranks' values, in place."""
        if self.count > 1:
            dist.all_reduce(values)
            values /= self.count
        return values

    def share(self, module: nn.Module) -> None:
        """Give every rank the first rank's weights."""
        if self.count > 1:
            for tensor in module.state_dict().values():
                if not isinstance(tensor, DTensor):
                    dist.broadcast(tensor, 0)

    def agree(self, seconds: float, device: torch.device) -> float:
        """The longest of the ranks' clocks: or one would stop while the other waits."""
        if self.count == 1:
            return seconds
        clock = torch.tensor([seconds], device=device)
        dist.all_reduce(clock, op=dist.ReduceOp.MAX)
        return clock.item()


SHARDS = "2.9"
"""The oldest torch whose shards come to one process's weights (so do 2.11, 2.13, 2.14): those of 2.8 and 2.7 come to
others on two ranks of gloo, without a word."""


def fsdp(
    module: nn.Module, blocks: Iterable[nn.Module], dtype: torch.dtype | None = None, nodes: int = 1
) -> nn.Module:
    """Shard the parameters of `module` over all ranks, gathered block by block; computes in `dtype` if given.

    Gradients are reduced in float32. What is handed over keeps its type: noise levels would not be what they are in
    bfloat16. nodes: with several, each holds all shards, so that only gradients cross between them (HSDP).
    """
    if torch.__version__ < SHARDS:  # which torch compares as numbers
        raise GroundedError(
            f"sharing a network out over ranks needs torch {SHARDS} or newer, this is {torch.__version__}",
            "update torch, or train without shards",
        )
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    policy = MixedPrecisionPolicy(dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    kind = "cuda" if dist.get_backend() == "nccl" else "cpu"
    shape = (dist.get_world_size(),) if nodes == 1 else (nodes, dist.get_world_size() // nodes)
    mesh = init_device_mesh(kind, shape, mesh_dim_names=("replicate", "shard")[-len(shape) :])
    for part in (*blocks, module):
        fully_shard(part, mesh=mesh, mp_policy=policy)
        for name in getattr(part, "BESIDES_FORWARD", ()):  # they need the parameters whole as well
            register_fsdp_forward_method(part, name)
    if isinstance(module, Own):
        module.computes_in = dtype
    return module


def launched() -> Ranks:
    """This process among those that torchrun started, for work that needs no exchange; alone otherwise."""
    place = team.launched()
    return Ranks() if place is None else Ranks(*place[:2])


def launch(work: Callable[..., object], count: int, device: str, *arguments: object) -> None:
    """Run work(ranks, *arguments) in `count` processes that form a group, or here if it is one; returns when all ended.

    A process that torchrun started is one of its group, whatever the count, and ends with its work.

    Raises ResourceError when a process dies, and what it raised if that says what to do.
    """
    if (place := team.launched()) is not None:
        _join(*place, device, work, arguments)
    if count == 1:
        work(Ranks(), *arguments)
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    said = get_context("spawn").SimpleQueue()
    try:
        start_processes(
            _entry, (count, port, device, work, arguments, said), nprocs=count, start_method="spawn"
        )
    except ProcessException as error:
        if not said.empty():
            raise said.get() from None
        raise ResourceError(
            f"a training process stopped early: {error}",
            "See the log above; the same command goes on from the last checkpoint.",
        ) from error


def _entry(
    rank: int,
    count: int,
    port: int,
    device: str,
    work: Callable[..., object],
    arguments: tuple,
    said: SimpleQueue[GroundedError],
) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    try:
        _join(rank, count, rank, device, work, arguments)
    except GroundedError as error:  # torch would hand on its traceback
        said.put(error)
        sys.exit(2)


def _join(
    rank: int, count: int, local: int, device: str, work: Callable[..., object], arguments: tuple
) -> NoReturn:
    cards = torch.device(device).type == "cuda"
    if cards:
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if cards else "gloo", rank=rank, world_size=count)
    try:
        work(Ranks(rank, count), *arguments)
    finally:
        dist.destroy_process_group()
    team.leave()
