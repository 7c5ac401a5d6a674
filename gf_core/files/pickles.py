"""Reads PyTorch pickles as tensors only; one that wants to run something is refused, naming what it wants."""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError, is_out_of_memory
from ..words import exact_size, plain
from .lazy import LazyTensor, TensorFile

_HARMLESS = re.compile(
    r"collections\.OrderedDict|_codecs\.encode|torch\._utils\._rebuild_\w+|torch(\.storage)?\.\w*Storage"
    r"|torch\.(Size|device|b?float\w*|u?int\d+|half|bool)|torch\.nn\.parameter\.Parameter"
)
"""What a list of tensors needs; everything else is reported."""
_MAX_PICKLE = 1_500_000
"""Bytes of the longest list of tensors that is read: a training's is half of it, and each MB takes PyTorch seconds."""
_SCANNED = 16_000_000
"""Bytes of an old-format file searched for imports; its pickles come before its weights."""
_MAX_DEPTH, _MAX_ENTRIES = 16, 1_000_000
"""How deep the mappings of a pickle may lie in each other, and what they may hold in all: far beyond any training's."""


def opens(path: Path, head: bytes) -> TensorFile | None:
    """The file, whose first bytes are `head`; None where it is of another format. Raises CheckpointError as below."""
    if not head.startswith((b"PK\x03\x04", b"\x80")):
        return None
    if path.suffix.lower() == ".safetensors":
        raise CheckpointError(
            f"{path.name} is a PyTorch pickle under the name of a safetensors file",
            "rename it to .pt if you trust its author (it is read without running anything in it).",
        )
    return TensorFile(path, "pickle", _lazy_tree(_load(path, head), path), parts=(path,))


def _lazy_tree(value: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Keeps tensors and mappings of what a pickle held; counters, settings and the like are dropped."""
    count = 0

    def keep(group: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        nonlocal count
        tree: dict[str, Any] = {}
        count += len(group)
        if depth > _MAX_DEPTH or count > _MAX_ENTRIES:  # a mapping may hold itself, or others a billion times
            raise CheckpointError(
                f"{path.name} is nested in a way that no model is",
                "choose the file with the model's weights.",
            )
        for name, item in group.items():
            if isinstance(item, Tensor):
                tree[str(name)] = _kept(item, str(name), path)
            elif isinstance(item, Mapping):
                tree[str(name)] = keep(item, depth + 1)
        return tree

    return keep(value, 0)


def _kept(tensor: Tensor, name: str, path: Path) -> LazyTensor:
    odd = {"quantised": tensor.is_quantized, "empty": tensor.is_meta, "complex": tensor.is_complex()}
    odd["sparse"] = tensor.layout is not torch.strided
    # A view that repeats its numbers may claim any size.
    odd["folded"] = not any(odd.values()) and tensor.nbytes > tensor.untyped_storage().nbytes()
    kind = next((kind for kind, found in odd.items() if found), None)
    if kind is not None:
        raise CheckpointError(
            f"{path.name} stores {plain(name, 80)} as a {kind} tensor",
            "use a version of the model with plain weights.",
        )
    return LazyTensor(tensor.dtype, tuple(tensor.shape), tensor.detach)


def _load(path: Path, head: bytes) -> Mapping[str, Any]:
    """The mapping that `path` holds, tensors memory-mapped on the CPU; nothing in the file is ever executed.

    Raises CheckpointError for code, for a damaged file, and for a file without named tensors.
    """
    zipped = zipfile.is_zipfile(path)
    if zipped:
        _refuse_packed(path)
    elif head.startswith(b"PK"):
        raise CheckpointError(
            f"{path.name} is cut off: {path.stat().st_size} bytes are there, "
            "the table of contents at its end is not",
            "download it again; the previous download did not finish.",
        )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            if zipped:
                content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            else:
                with _Bounded(io.FileIO(path)) as stream:
                    content = torch.load(stream, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refusal(path, zipped, error) from error
    except Exception as error:  # a damaged file makes the reader raise almost anything
        if is_out_of_memory(error):
            raise
        reason = plain(str(error).splitlines()[0], 200) if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"{path.name} ({path.stat().st_size} bytes) is damaged: {reason}", "download it again."
        ) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path.name} holds a {type(content).__name__}, not tensors with names",
            "choose the file with the model's weights.",
        )
    return content


class _Bounded(io.BufferedReader):
    """A file in PyTorch's old format: its pickles come in small reads, its weights past Python."""

    left = _MAX_PICKLE

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        return self._counted(data)

    def readline(self, size: int | None = -1, /) -> bytes:
        return self._counted(super().readline(size))

    def _counted(self, data: bytes) -> bytes:
        self.left -= len(data)
        if self.left < 0:
            raise ValueError("its list of tensors is longer than any model's")
        return data


def _refuse_packed(path: Path) -> None:
    """Raises for an archive whose contents are larger than itself (PyTorch stores, and never packs) or no weights."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except Exception:  # damaged in a way that the reader will report
        return
    inside = sum(member.file_size for member in members)
    if inside > path.stat().st_size:
        raise CheckpointError(
            f"{path.name} is a packed archive, not a PyTorch file: {inside} bytes in {path.stat().st_size}",
            "unpack it and choose the model in it.",
        )
    long = [
        member for member in members if "/data/" not in member.filename and member.file_size > _MAX_PICKLE
    ]
    if long:
        raise CheckpointError(
            f"{path.name} holds {plain(long[0].filename, 80)} of {exact_size(long[0].file_size)}: "
            "its list of tensors is longer than any model's",
            "choose the file with the model's weights.",
        )


def _refusal(path: Path, zipped: bool, error: Exception) -> CheckpointError:
    asked = [name for name in called_names(path, zipped) if not _HARMLESS.fullmatch(name)]
    if not asked:
        fix = "choose the file with the model's weights, or download it again."
        return CheckpointError(f"{path.name} holds other things than tensors, or is damaged", fix)
    return CheckpointError(
        f"{path.name} was not opened: reading it would run {plain(', '.join(asked[:4]), 200)}, "
        "which tensors never need",
        "do not use it unless you trust its author; a .safetensors version of the model cannot hold code.",
    )


def called_names(path: Path, zipped: bool) -> list[str]:
    """`module.name` of everything that the pickle would import, in order, found without executing it."""
    if not zipped:
        with path.open("rb") as stream:
            return _imports(stream.read(_SCANNED))
    try:
        with zipfile.ZipFile(path) as archive:
            member = next((name for name in archive.namelist() if name.endswith("data.pkl")), None)
            return _imports(archive.read(member)) if member else []
    except Exception:  # a damaged archive raises almost anything; it only has no names to tell then
        return []


def _imports(content: bytes) -> list[str]:
    """Import operations of consecutive pickles; bytes that stop being a pickle end the list."""
    found: list[str] = []
    strings: list[str] = []
    memo: dict[int, str] = {}
    stream = io.BytesIO(content)
    with suppress(ValueError, EOFError, IndexError):
        while stream.tell() < len(content):
            for op, arg, _ in pickletools.genops(stream):
                if op.name == "GLOBAL":
                    found.append(str(arg).replace(" ", "."))
                elif op.name == "STACK_GLOBAL":
                    found.append(".".join(strings[-2:]))
                elif op.name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
                    memo[len(memo) if arg is None else int(arg)] = strings[-1] if strings else ""
                elif op.name in ("GET", "BINGET", "LONG_BINGET"):
                    strings.append(memo.get(int(arg or 0), ""))
                elif isinstance(arg, str):
                    strings.append(arg)
    return list(dict.fromkeys(found))
