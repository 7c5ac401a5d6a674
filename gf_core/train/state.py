"""What a run goes on from: nested dictionaries of tensors and numbers, on disk whole or not at all.

Where ranks hold different parts of the tensors, or something of their own such as a film that they are in the middle
of, every rank writes into a folder (torch.distributed.checkpoint); otherwise the first rank writes one file.
"""

from __future__ import annotations

import contextlib
import errno
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict_loader import load as read_parts
from torch.distributed.checkpoint.state_dict_saver import save as write_parts
from torch.distributed.tensor import DTensor, distribute_tensor

from ..errors import CheckpointError, ResourceError
from ..files.atomic import beside, put, sweep_beside
from ..files.listing import inside
from ..words import counted

State = dict[str, Any]
OWN = "own"
"""The entry of a state that belongs to the rank alone."""
BEGUN = "begun with"
"""The entry that says what the run was begun with: words by name (`told`, `same_run`)."""
PRINT = "#"
"""What a value of it begins with that is a fingerprint, and says nothing to people."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to fill, renamed to `path` at the end: a kill leaves the old file or the new one.

    Raises ResourceError: the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with beside(path) as part:
            yield part
            put(part, path)
    except (OSError, RuntimeError) as error:
        if not _is_full(error):
            raise
        raise ResourceError(
            f"the disk is full: {path} could not be written",
            "free some space and run the same command again; what lay there before is kept",
        ) from error


def _is_full(error: BaseException | None) -> bool:
    """Whether a full disk is behind it: torch raises another error over the system's."""
    while error is not None:
        if getattr(error, "errno", None) == errno.ENOSPC:
            return True
        error = error.__context__
    return False


def sharded(state: object) -> bool:
    """Whether a tensor somewhere in `state` is spread over the ranks."""
    if isinstance(state, dict):
        return any(sharded(value) for value in state.values())
    if isinstance(state, list):
        return any(sharded(value) for value in state)
    return isinstance(state, DTensor)


def learned(module: nn.Module) -> dict[str, Tensor]:
    """The state of a module without the parameters that are frozen."""
    frozen = {name for name, value in module.named_parameters() if not value.requires_grad}
    return {name: value for name, value in module.state_dict().items() if name not in frozen}


def fill(module: nn.Module, values: dict[str, Tensor]) -> None:
    """Put what `learned` gave back. Raises CheckpointError where other parameters are learned now."""
    if values.keys() != learned(module).keys():
        raise CheckpointError(
            "the checkpoint is of another network, or of one that other parameters of were trained",
            "train with the same settings, or begin a run in another folder",
        )
    module.load_state_dict({**module.state_dict(), **values})


def gathered(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Sharded tensors made whole, on the processor; every rank must call."""
    whole = {n: v.full_tensor() if isinstance(v, DTensor) else v for n, v in values.items()}
    return {name: value.detach().cpu() for name, value in whole.items()}


def save(path: Path, state: State) -> None:
    """Write `state`; every rank must call. What lies under OWN is this rank's, everything else the same on all."""
    rank = dist.get_rank() if dist.is_initialized() else 0
    count = dist.get_world_size() if dist.is_initialized() else 1
    first = rank == 0
    own = state.get(OWN) if count > 1 else None
    part, old = (path.with_name(path.name + end) for end in (".part", ".old"))
    if not own and not sharded(state):
        if first:
            sweep_beside(path)  # a checkpoint can be gigabytes
            if path.is_dir():  # of more ranks before
                _remove(old)
                path.rename(old)
            with replacing(path) as file, file.open("wb") as written:
                torch.save(state, written)
            _remove(old)
        return
    write_parts(_shared(state), checkpoint_id=part)
    torch.save(state.get(OWN), _own(part, rank))
    if first:
        _begun(part).write_text(json.dumps(state.get(BEGUN, {})), "utf-8")
    dist.barrier()
    if first:
        _remove(old)
        if path.exists():
            path.rename(old)
        part.rename(path)
        _remove(old)
    dist.barrier()


def _remove(path: Path) -> None:
    """A checkpoint of either form, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def find(path: Path) -> Path | None:
    """What there is to go on from at `path`: it, or the one before where a kill came between two renames."""
    old = path.with_name(path.name + ".old")
    return path if path.exists() else old if old.exists() else None


def load(path: Path, state: State) -> State:
    """Read what `save` wrote. A folder is read into the tensors of `state`, which must have every entry; of a file
    the tensors are sharded as those of `state` are, which may have been whole when it was written.

    Raises CheckpointError: ranks have something of their own in it, and there were more or fewer of them.
    """
    rank = dist.get_rank() if dist.is_initialized() else 0
    count = dist.get_world_size() if dist.is_initialized() else 1
    written = sum(file.match("rank*.pt") for file in inside(path)) if path.is_dir() else 1
    if state.get(OWN) and written != count:
        raise CheckpointError(
            f"{path} was written by {counted(written, 'rank')}, each in the middle of a film of its own; "
            f"here are {count}",
            f"go on with {counted(written, 'rank')}",
        )
    if not path.is_dir():
        return _placed(torch.load(path, weights_only=True, map_location="cpu"), state)
    shared = _shared(state)
    read_parts(shared, checkpoint_id=path)
    own = torch.load(_own(path, rank), weights_only=True, map_location="cpu") if rank < written else None
    return {**shared, OWN: own}


def _placed(value: Any, like: Any) -> Any:
    """A value with its tensors sharded as those in the same places of `like`; every rank must call."""
    if isinstance(value, dict) and isinstance(like, dict):
        return {name: _placed(part, like.get(name)) for name, part in value.items()}
    if isinstance(value, Tensor) and isinstance(like, DTensor):
        return distribute_tensor(value, like.device_mesh, like.placements)
    return value


def told(value: object, name: str) -> Iterator[tuple[str, str]]:
    """A setting in words by name; those of settings inside settings are called `outer.inner`."""
    if not is_dataclass(value):
        yield name, str(value)
        return
    for field in fields(value):
        yield from told(getattr(value, field.name), f"{name}.{field.name}".lstrip("."))


def same_run(path: Path, name: str, now: Mapping[str, str]) -> None:
    """Refuse to go on from the checkpoint of `name` at `path` with other settings, weights or data than it was begun
    with. What only one of the two tells is not compared: programs learn new settings.

    Raises CheckpointError.
    """
    if path.is_dir():
        file = _begun(path)
        then = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    else:
        then = torch.load(path, weights_only=True, map_location="cpu", mmap=True).get(BEGUN, {})
    other = [key for key, value in now.items() if then.get(key, value) != value]
    if other:
        said = [
            f"another {key}"
            if PRINT in (then[key][:1], now[key][:1])
            else f"{key} {then[key]}, which is {now[key]} now"
            for key in other
        ]
        more = f", and {len(said) - 3} more" if len(said) > 3 else ""
        raise CheckpointError(
            f"{name} in {path} was begun with {'; '.join(said[:3])}{more}",
            "go on with what it was begun with, begin in another folder, or move it away: then it begins anew",
        )


def _shared(state: State) -> State:
    """What lies in a folder's checkpoint itself."""
    return {name: value for name, value in state.items() if name not in (OWN, BEGUN)}


def _own(folder: Path, rank: int) -> Path:
    """Where a rank's own part lies."""
    return folder / f"rank{rank}.pt"


def _begun(folder: Path) -> Path:
    """Where what the run was begun with lies."""
    return folder / "begun.json"
