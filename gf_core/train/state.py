"""What a run goes on from: nested dictionaries of tensors and numbers, on disk whole or not at all.

Where ranks hold different parts of the tensors, every rank writes its own into a folder (torch.distributed.checkpoint);
otherwise the first rank writes one file.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict_loader import load as read_parts
from torch.distributed.checkpoint.state_dict_saver import save as write_parts
from torch.distributed.tensor import DTensor

from ..files.atomic import beside, put

State = dict[str, Any]


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to fill, renamed to `path` at the end: a kill leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with beside(path) as part:
        yield part
        part.chmod(0o644)  # safetensors writes files that only their owner may read
        put(part, path)


def sharded(state: object) -> bool:
    """Whether a tensor somewhere in `state` is spread over the ranks."""
    if isinstance(state, dict):
        return any(sharded(value) for value in state.values())
    if isinstance(state, list):
        return any(sharded(value) for value in state)
    return isinstance(state, DTensor)


def save(path: Path, state: State) -> None:
    """Write `state`; every rank must call."""
    first = not dist.is_initialized() or dist.get_rank() == 0
    if not sharded(state):
        if first:
            with replacing(path) as part:
                torch.save(state, part)
        return
    part, old = (path.with_name(path.name + end) for end in (".part", ".old"))
    write_parts(state, checkpoint_id=part)
    if first:
        shutil.rmtree(old, ignore_errors=True)
        if path.exists():
            path.rename(old)
        part.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    dist.barrier()


def find(path: Path) -> Path | None:
    """What there is to go on from at `path`: it, or the one before where a kill came between two renames."""
    old = path.with_name(path.name + ".old")
    return path if path.exists() else old if old.exists() else None


def load(path: Path, state: State) -> State:
    """Read what `save` wrote. A folder is read into the tensors of `state`, which must have every entry."""
    if path.is_dir():
        read_parts(state, checkpoint_id=path)
        return state
    return torch.load(path, weights_only=True, map_location="cpu")
