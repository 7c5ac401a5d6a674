"""Opens safetensors files: a JSON header that is judged before anything is read, tensors memory-mapped."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..foreign import read_json
from ..words import exact_size, is_text, plain
from .lazy import LazyTensor, TensorFile
from .strange import MAX_AXES, MAX_SIDE, MAX_TENSORS, MAX_TEXT

SAFETENSORS_DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool,
}  # fmt: skip


def opens(path: Path, head: bytes) -> TensorFile | None:
    """The file, whose first bytes are `head`; None where it is of another format. Raises CheckpointError for damage."""
    # Headers may have any length, so the first byte alone does not tell a pickle; the brace behind it tells a header.
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= MAX_TEXT:
        return read(path)
    return None


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
        if len(header) > MAX_TENSORS:
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
    if not isinstance(sizes, list) or len(sizes) > MAX_AXES:
        raise ValueError("a shape that is none")
    if any(type(n) is not int or not 0 <= n <= MAX_SIDE for n in (*sizes, start, end)):
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

        if not is_text(self.path):
            raise CheckpointError(
                f"the path of {self.path} is not text in UTF-8", "rename what is not, or move the file."
            )
        try:
            if self._open is None:
                self._open = safe_open(self.path, framework="pt", device="cpu")
            return self._open.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{self.path.name} cannot be read at tensor {plain(name, 80)}: {plain(error, 200)}",
                "download the file again.",
            ) from error


def read(path: Path) -> TensorFile:
    """The file, taken for safetensors whatever it begins with. Raises CheckpointError where it is not whole."""
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
    return TensorFile(path, "safetensors", tree, metadata, parts=(path,))
