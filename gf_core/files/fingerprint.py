"""What a model is, as a hash of its contents: names, types, shapes and bytes, never the file's name or
wrapping.

The same weights therefore have one fingerprint whether they come from a .pt or a .safetensors file. Hashing
5.7 GB takes seconds, so results are remembered by path, size and time of change in the user's cache folder.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .cache import cache_dir, recall, remember
from .pieces import pieces

if TYPE_CHECKING:
    from torch import Tensor

    from .lazy import LazyTensor

log = logging.getLogger("grounded")
_WORKERS = min(4, os.cpu_count() or 1)


def hash_tensors(tensors: Mapping[str, LazyTensor]) -> str:
    """Hex sha256 over all tensors in order of name; each tensor is hashed on its own, several at a time."""
    with ThreadPoolExecutor(_WORKERS) as pool:
        parts = pool.map(_hash_one, sorted(tensors.items()))
        return combine(parts)


def combine(parts: Iterable[str]) -> str:
    """Hex sha256 of several fingerprints (or other short texts) in order."""
    # Names of files and variables may be any bytes.
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _hash_one(item: tuple[str, LazyTensor]) -> str:
    digest = hashlib.sha256()
    name, tensor = item
    # Bytes of one length may be of two packings; the shape of what they hold is told by theirs.
    _add(digest, f"{name} {tensor.packing}".rstrip(), tensor.stored.load())
    return digest.hexdigest()


def _add(digest: Any, name: str, tensor: Tensor) -> None:
    digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
    for piece in pieces(tensor):
        digest.update(piece)


def sealed(note: Path, value: dict[str, Any]) -> dict[str, Any]:
    """`value` with a sum of it and of the note's name, so that nothing damaged, nor another note, is taken for it."""
    return {"sum": _sum(note, value), **value}


def unsealed(note: Path, found: dict[str, Any]) -> dict[str, Any]:
    """What `sealed` was given, from what lies in `note`. Raises ValueError, AttributeError: it is damaged."""
    if found.pop("sum", "") != _sum(note, found):
        raise ValueError("its sum does not fit")
    return found


def _sum(note: Path, value: Any) -> str:
    return combine([note.stem, json.dumps(value, sort_keys=True)])


def hash_state(state: Mapping[str, Tensor]) -> str:
    """16 digits of a sha256 over tensors in memory, all in one; Takes hold it as the name of a VAE."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        _add(digest, name, value)
    return digest.hexdigest()[:16]


def recalled(files: Sequence[Path], variant: str) -> str | None:
    """What `remembered` knows already; None for files that were never hashed, or have changed since."""
    note = _note(files, variant)
    return recall(
        note, lambda found: str(unsealed(note, found)["sha256"]), None, "a fingerprint is not known"
    )


def _note(files: Sequence[Path], variant: str) -> Path:
    """Where the hash of `files` in their present state is kept."""
    return cache_dir("fingerprints") / f"{combine([variant, *states(files)])}.json"


def states(files: Iterable[Path]) -> list[str]:
    """Place, size and times of change of each file, in order of place; another state may be other contents.

    Size and time can be those of the file that it replaced, but not when it was put there.
    """
    told = []
    for file in sorted(files):
        state = file.stat()
        told.append(f"{file.resolve()} {state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}")
    return told


def remembered(files: Sequence[Path], variant: str, tensors: Mapping[str, LazyTensor]) -> str:
    """`hash_tensors`, looked up by the state of `files` first; `variant` tells networks of one file apart."""
    known = recalled(files, variant)
    if known is not None:
        return known
    if sum(tensor.nbytes for tensor in tensors.values()) > 1e9:
        log.info("hashing %s, once per file", ", ".join(file.name for file in files))
    value = hash_tensors(tensors)
    note = _note(files, variant)
    remember(note, sealed(note, {"sha256": value}), "the fingerprint")
    return value
