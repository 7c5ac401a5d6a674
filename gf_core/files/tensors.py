"""Opens a model file without reading its tensors: safetensors, PyTorch pickles (never run), sharded folders.

What a file is, its content says, not its suffix. Every tensor stays on disk behind a `LazyTensor` until it is
asked for, so that a file of 57 GB can be described in a moment. Damaged, foreign and unsafe files are refused
in words.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import CheckpointError, reason
from ..foreign import read_json
from ..words import exact_size, plain
from .pickles import load_pickle
from .strange import MODEL_SUFFIXES, missing, refuse_foreign, refuse_unfinished, start_of

SAFETENSORS_DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool,
}  # fmt: skip
MAX_TEXT = 16_000_000
"""Bytes of the longest header or JSON that is read: twenty times that of the largest published models."""
_MAX_SIDE, _MAX_AXES = 2**40, 16
"""Beyond any tensor's: products of larger numbers take minutes."""
_MAX_TENSORS = 50_000
"""Of one file: LoRAs of the largest models have a tenth."""
_MAX_DEPTH, _MAX_ENTRIES = 16, 1_000_000
"""How deep the mappings of a pickle may lie in each other, and what they may hold in all: far beyond any training's."""


@dataclass(frozen=True)
class LazyTensor:
    """A tensor that is still on disk."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    load: Callable[[], Tensor] = field(repr=False, compare=False)
    """Reads the tensor (CPU, as stored; memory-mapped where the format allows)."""

    cast: Callable[[torch.dtype], Tensor] | None = field(default=None, repr=False, compare=False)
    """Reads the tensor straight into a type, where that takes less memory than `load` and a conversion."""

    def copied(self, dtype: torch.dtype, device: str | torch.device = "cpu") -> Tensor:
        """The tensor as `dtype` in memory of its own: mapped weights are unaligned and lock their file on Windows."""
        read = self.load() if self.cast is None else self.cast(dtype)
        return read.to(device=device, dtype=dtype, copy=self.cast is None)

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.numel * self.dtype.itemsize


@dataclass(frozen=True)
class TensorFile:
    """An opened model file or folder."""

    path: Path
    """What was asked for."""
    kind: Literal["safetensors", "pickle", "folder"]
    """How it is stored."""
    tree: Mapping[str, Any]
    """Names to `LazyTensor`; pickles may nest mappings under outer keys."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Text metadata of a safetensors header."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """`config.json` of a folder."""
    parts: tuple[Path, ...] = ()
    """The files that hold the tensors."""

    @property
    def tensors(self) -> dict[str, LazyTensor]:
        """Those that lie under no outer key."""
        return {name: tensor for name, tensor in self.tree.items() if isinstance(tensor, LazyTensor)}


def open_file(path: str | Path) -> TensorFile:
    """Opens `path`; raises CheckpointError when it is missing, damaged, unsafe or of another kind."""
    path = Path(path).expanduser()
    try:
        if not path.exists():
            raise missing(path)
        if path.is_dir():
            return _open_folder(path)
        head = start_of(path, 512)
    except OSError as error:
        raise CheckpointError(
            f"{path.name[:80]} cannot be read: {reason(error)}",
            "check the path and your rights to the file.",
        ) from error
    refuse_unfinished(path)
    # Headers may have any length, so the first byte alone does not tell a pickle; the brace behind it tells a header.
    header = len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= MAX_TEXT
    if not header and head.startswith((b"PK\x03\x04", b"\x80")):
        if path.suffix.lower() == ".safetensors":
            raise CheckpointError(
                f"{path.name} is a PyTorch pickle under the name of a safetensors file",
                "rename it to .pt if you trust its author (it is read without running anything in it).",
            )
        return TensorFile(path, "pickle", _lazy_tree(load_pickle(path), path), parts=(path,))
    if not header:
        refuse_foreign(path, head)
    tree, metadata = _safetensors_tree(path)
    return TensorFile(path, "safetensors", tree, metadata, parts=(path,))


def read_settings(file: Path) -> Any:
    """The JSON file `file` beside a model. Raises CheckpointError when it is damaged, too long or no file."""
    try:
        text = start_of(file, MAX_TEXT + 1)
        if len(text) > MAX_TEXT:
            raise ValueError("it is too long")
        return read_json(text)
    except (ValueError, OSError) as error:
        raise CheckpointError(
            f"{file.name} in {file.parent.name} is damaged", "download it again."
        ) from error


def _safetensors_header(path: Path) -> dict[str, Any]:
    """The parsed header of a safetensors file whose size agrees with it."""
    actual = path.stat().st_size
    again = "download it again; the previous download did not finish or was damaged."
    with path.open("rb") as stream:
        prefix = stream.read(8)
        if len(prefix) < 8:
            raise CheckpointError(f"{path.name} is too short for a model ({actual} bytes)", again)
        (length,) = struct.unpack("<Q", prefix)
        if length > MAX_TEXT:
            raise CheckpointError(f"{path.name} is not a safetensors file, or its header is damaged", again)
        if 8 + length > actual:
            raise CheckpointError(
                f"{path.name} is cut off inside its header: {actual} bytes of at least {8 + length}", again
            )
        raw = stream.read(length)
    try:
        header = read_json(raw)
        metadata = header.get("__metadata__") or {}
        if not all(isinstance(text, str) for text in metadata.values()):
            raise ValueError("metadata that is no text")
        if len(header) > _MAX_TENSORS:
            raise ValueError("more tensors than any model has")
        end = 0
        for start, stop in sorted(_place(info) for name, info in header.items() if name != "__metadata__"):
            if start != end:
                raise ValueError("tensors with gaps between them, or over each other")
            end = stop
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path.name} has a damaged header ({type(error).__name__})", again) from error
    expected = 8 + length + end
    if actual != expected:
        state = "cut off" if actual < expected else "damaged"
        raise CheckpointError(
            f"{path.name} is {state}: {actual} bytes ({exact_size(actual)}) where its header needs "
            f"{expected} ({exact_size(expected)})",
            again,
        )
    return header


def _place(info: Mapping[str, Any]) -> tuple[int, int]:
    """Where a header entry's bytes begin and end. Raises ValueError, KeyError or TypeError for an impossible entry."""
    start, end = info["data_offsets"]
    sizes = info["shape"]
    if not isinstance(sizes, list) or len(sizes) > _MAX_AXES:
        raise ValueError("a shape that is none")
    if any(type(n) is not int or not 0 <= n <= _MAX_SIDE for n in (*sizes, start, end)):
        raise ValueError("sizes that are no counts")
    dtype = SAFETENSORS_DTYPES.get(info["dtype"])
    if start > end or (dtype is not None and end - start != math.prod(sizes) * dtype.itemsize):
        raise ValueError("sizes that do not agree")
    return start, end


class _SafetensorsHandle:
    """One memory mapping shared by all lazy tensors of a file, opened when the first is read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open: Any = None

    def read(self, name: str) -> Tensor:
        from safetensors import SafetensorError, safe_open

        try:
            if self._open is None:
                self._open = safe_open(self.path, framework="pt", device="cpu")
            return self._open.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{self.path.name} cannot be read at tensor {plain(name, 80)}: {plain(error, 200)}",
                "download the file again.",
            ) from error


def _safetensors_tree(path: Path) -> tuple[dict[str, LazyTensor], dict[str, str]]:
    header = _safetensors_header(path)
    metadata: dict[str, str] = header.pop("__metadata__", None) or {}
    handle = _SafetensorsHandle(path)
    tree = {}
    for name, info in header.items():
        dtype = SAFETENSORS_DTYPES.get(info["dtype"])
        if dtype is None:
            raise CheckpointError(
                f"{path.name} stores {plain(name, 80)} as {plain(info['dtype'], 40)}, "
                "a quantised format not loadable yet",
                "use the bf16, fp16 or fp32 version of this model.",
            )
        tree[name] = LazyTensor(dtype, tuple(info["shape"]), lambda name=name: handle.read(name))
    return tree, metadata


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


def _open_folder(path: Path) -> TensorFile:
    """A diffusers folder (or its `transformer` part), a sharded set, or a folder holding one model file."""
    inner = path / "transformer"
    root = inner if inner.is_dir() else path
    indexes = sorted(root.glob("*.safetensors.index.json"))
    if indexes:
        shards = _shards_of_index(root, indexes[0])
    else:
        shards = sorted(root.glob("diffusion_pytorch_model*.safetensors")) or sorted(
            root.glob("model*.safetensors") if (root / "config.json").exists() else ()
        )
    if not shards:
        files = sorted(p for p in root.iterdir() if p.suffix.lower() in MODEL_SUFFIXES)
        if len(files) == 1:
            return replace(open_file(files[0]), config=_read_config(root))
        listing = ", ".join(p.name for p in files[:8]) or "no model file"
        raise CheckpointError(
            f"the folder {root.name} is not a model in diffusers layout; it holds {listing}",
            "name one file, or the folder that holds config.json and diffusion_pytorch_model*.safetensors.",
        )
    tree: dict[str, LazyTensor] = {}
    metadata: dict[str, str] = {}
    for shard in shards:
        start_of(shard, 0)
        refuse_unfinished(shard)
        part, extra = _safetensors_tree(shard)
        tree.update(part)
        metadata.update(extra)
    return TensorFile(path, "folder", tree, metadata, _read_config(root), tuple(shards))


def _shards_of_index(root: Path, index: Path) -> list[Path]:
    try:
        names = sorted(set(read_settings(index)["weight_map"].values()))
        missing = [n for n in names if os.path.basename(n) != n or not (root / n).is_file()]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{index.name} is damaged", "download it again.") from error
    if missing:
        raise CheckpointError(
            f"{len(missing)} of {len(names)} parts of the model in {root.name} are missing: "
            f"{plain(', '.join(missing[:4]), 200)}",
            "download the missing parts into the same folder.",
        )
    return [root / name for name in names]


def _read_config(root: Path) -> dict[str, Any]:
    config = read_settings(root / "config.json") if (root / "config.json").exists() else {}
    return config if isinstance(config, dict) else {}
