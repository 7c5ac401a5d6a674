"""Processes that make one film together: orders from the first to the others, and tensors that change hands.

A rank is a card (nccl) or some cores (gloo), started by torchrun. The first leads: it tells the others what to do, by
name, and does it beside them. What it tells, and what lies in the computer's memory, goes by gloo, so that nobody waits
for a card.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor

from .devices import pick_device
from .errors import GroundedError, ResourceError

PATIENCE = timedelta(days=7)
"""Longer than the first rank is ever busy with texts, disks or people; who is gone is noticed by the closed line."""
Order = tuple[str, tuple[Any, ...], dict[str, Any]]
"""A name, and what goes with it."""


class Team:
    """This process among those that make a film."""

    def __init__(self, rank: int, count: int, device: torch.device) -> None:
        """The process group is there already (`join`)."""
        from torch.distributed.device_mesh import init_device_mesh  # not in every build of torch

        self.rank, self.count, self.device = rank, count, device
        self.sent = 0
        """Bytes of tensors that this rank has sent to others."""
        self.known: Sequence[Any] = ()
        """What every rank has in the same order; in orders these go by number."""
        self.busy = rank > 0
        """An order is being carried out; the others' ranks do nothing else."""
        self._lost = False
        self._group = init_device_mesh(device.type, (count,), mesh_dim_names=("heads",)).get_group()

    @property
    def first(self) -> bool:
        """Whether this rank leads."""
        return self.rank == 0

    # -- orders -------------------------------------------------------------------------------------------------

    def tell(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Give the others an order.

        Raises ResourceError: something failed before, and they are not in step any more.
        """
        if self._lost:
            raise ResourceError(
                f"the {self.count} ranks are not in step any more",
                "run the same command again: what is made is kept",
            )
        file, tensors = io.BytesIO(), list[Tensor]()
        _Writer(file, self.known, tensors).dump((name, args, kwargs))
        dist.broadcast_object_list([file.getvalue()], 0, device=torch.device("cpu"))
        for tensor in tensors:
            self._cast(tensor.detach().contiguous())
            self.sent += tensor.nbytes * (self.count - 1)

    def hear(self) -> Order | None:
        """Wait for the next order; None: there are no more."""
        box: list[Any] = [None]
        dist.broadcast_object_list(box, 0, device=torch.device("cpu"))
        tensors = list[Tensor]()
        order = _Reader(io.BytesIO(box[0]), self.known, tensors, self.device).load()
        for tensor in tensors:
            self._cast(tensor)
        return order if order[0] else None

    def _cast(self, tensor: Tensor) -> None:
        if tensor.numel():
            dist.broadcast(tensor.view(-1).view(torch.uint8), 0)

    @contextlib.contextmanager
    def doing(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[None]:
        """Around what the first rank does together with the others. Ctrl-C waits until it is done.

        Raises ResourceError: it failed here or elsewhere, and the ranks are not in step any more.
        """
        self.busy = True
        try:
            with _uninterrupted():
                self.tell(name, *args, **kwargs)
                yield
        except GroundedError:
            raise
        except Exception as error:
            self._lost = True
            raise ResourceError(
                f"{self.count} ranks were making the film and one failed: {str(error).splitlines()[0]}",
                "see what the others say above; the film so far is kept, and the same command goes on with it",
            ) from error
        finally:
            self.busy = False

    @contextlib.contextmanager
    def agreed(self, name: str = "", *args: Any, **kwargs: Any) -> Iterator[None]:
        """The same around what may fail on one rank alone, such as for want of room; it leaves all in step.

        The first rank gives the order, the others, who have heard it, none.

        Raises ResourceError: on the first rank, with the words of another. There, too, what failed on itself.
        """
        failed: Exception | None = None
        try:
            with _uninterrupted():
                if self.first:
                    self.tell(name, *args, **kwargs)
                try:
                    yield
                except Exception as error:
                    failed = error
                said: list[Any] = [None] * self.count
                dist.all_gather_object(said, "" if failed is None else str(failed) or type(failed).__name__)
        except BaseException:
            self._lost = True
            raise
        if self.first and failed is not None:
            raise failed
        for rank, words in enumerate(said if self.first else ()):
            if words:
                raise ResourceError(f"rank {rank}: {words}", "every rank needs the model, and room for it")

    # -- tensors ------------------------------------------------------------------------------------------------

    def exchange(self, pieces: Sequence[Tensor], shapes: Sequence[Sequence[int]]) -> list[Tensor]:
        """Give piece i to rank i; returns what every rank has given this one, of these shapes."""
        kind, width = pieces[0].dtype, pieces[0].itemsize
        given = [piece.numel() * width for piece in pieces]
        taken = [math.prod(shape) * width for shape in shapes]
        box = torch.empty(sum(taken), dtype=torch.uint8, device=pieces[0].device)
        flat = torch.cat([piece.reshape(-1) for piece in pieces]).view(torch.uint8)
        dist.all_to_all_single(box, flat, taken, given, group=self._group)
        self.sent += sum(given) - given[self.rank]
        return [part.view(kind).view(*shape) for part, shape in zip(box.split(taken), shapes)]

    def gather(self, mine: Tensor, dim: int, sizes: Sequence[int], *, all_ranks: bool = True) -> Tensor:
        """The ranks' tensors side by side along `dim`, along which they have these sizes.

        all_ranks: False brings them to the first only; the others get their own back.
        """
        if not mine.numel():  # of no frames, and so on all ranks
            return mine.new_empty([*mine.shape[:dim], sum(sizes), *mine.shape[dim + 1 :]])
        everyone = [True] * self.count if all_ranks else [True, *[False] * (self.count - 1)]
        wanted = [mine if wants else mine[:0] for wants in everyone]
        sizes = sizes if everyone[self.rank] else [0] * self.count
        parts = self.exchange(wanted, [(*mine.shape[:dim], size, *mine.shape[dim + 1 :]) for size in sizes])
        return torch.cat(parts, dim) if everyone[self.rank] else mine

    # -- the end ------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Let every rank go; of the first, after it has told the others."""
        with contextlib.suppress(RuntimeError):  # one may be gone already
            if self.first and not self._lost:
                self.tell("")
            if not self._lost:
                dist.barrier()
                dist.destroy_process_group()


class _Writer(pickle.Pickler):
    """Writes an order; tensors are told by their shapes, to be sent after it."""

    def __init__(self, file: io.BytesIO, known: Sequence[Any], tensors: list[Tensor]) -> None:
        super().__init__(file)
        self._known, self._tensors = known, tensors

    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, Tensor):
            self._tensors.append(obj)
            return "tensor", tuple(obj.shape), obj.dtype, obj.device.type != "cpu"
        number = next((number for number, other in enumerate(self._known) if other is obj), None)
        return None if number is None else ("known", number)


class _Reader(pickle.Unpickler):
    """Reads one; makes room for its tensors."""

    def __init__(
        self, file: io.BytesIO, known: Sequence[Any], tensors: list[Tensor], device: torch.device
    ) -> None:
        super().__init__(file)
        self._known, self._tensors, self._device = known, tensors, device

    def persistent_load(self, pid: Any) -> Any:
        if pid[0] == "known":
            return self._known[pid[1]]
        _, shape, dtype, on_card = pid
        self._tensors.append(torch.empty(shape, dtype=dtype, device=self._device if on_card else "cpu"))
        return self._tensors[-1]


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C inside the block acts at its end: it must not part the ranks in the midst of an exchange."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: asked.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if asked:
        raise KeyboardInterrupt


def launched() -> tuple[int, int, int] | None:
    """Rank, number of ranks and rank on this machine of a process that torchrun started."""
    if not (dist.is_available() and dist.is_torchelastic_launched()):  # some builds of torch are without it
        return None
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return rank, count, int(os.environ.get("LOCAL_RANK", rank))


def join(device: str | None) -> Team | None:
    """The team that torchrun has started this process for; None where it is alone.

    device: as `devices.pick_device`; each rank takes a card of its own.

    Raises GroundedError: the device is one certain card, or there are fewer cards than ranks.
    """
    place = launched()
    if place is None or place[1] == 1:
        return None
    rank, count, local = place
    if device is not None and ":" in device:
        raise GroundedError(
            f"{count} ranks cannot share {device}", "give --device cuda: each takes its own card"
        )
    found = pick_device(device)
    if found.type == "cuda":
        found = pick_device(f"cuda:{local}")
        torch.cuda.set_device(found)
    backend = "gloo" if found.type == "cpu" else "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, rank=rank, world_size=count, timeout=PATIENCE)
    return Team(rank, count, found)


def leave(status: int = 0) -> NoReturn:
    """End this process without taking the interpreter down first.

    A thread of gloo lets go of its last reduction some time after the group is destroyed; the tensors in it have
    Python halves, and a thread that asks for a gone interpreter's lock aborts the whole process.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
