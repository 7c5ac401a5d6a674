"""Opens GGUF files: the header is read here, within bounds; packed weights become numbers through the package gguf.

Layout: ggml-org/ggml docs/gguf.md, versions 2 and 3. Read are the image and video files that ComfyUI-GGUF's tools write
(architecture `wan`, original tensor names, axes stored backwards, true shapes in `comfy.gguf.orig_shape.NAME`) and
llama.cpp's files of T5 encoders.
"""

from __future__ import annotations

import math
import mmap
import struct
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..words import exact_size, plain
from .lazy import LazyTensor, TensorFile, filled
from .strange import MAX_AXES, MAX_SIDE, MAX_TENSORS

ARCHITECTURES = ("wan", "t5", "t5encoder", "vae", "pig")
"""Values of `general.architecture` under which a part of Wan is published; `pig` is anything's."""
_AGAIN = "download it again; the previous download did not finish or was damaged."
_MAX_HEADER, _MAX_FIELDS, _MAX_TEXTS, _MAX_NAME = 64_000_000, 100_000, 600_000, 1024
"""Bytes of a header, values in it, texts in its lists (a vocabulary has 256,384, and a million take
seconds), and bytes of a name."""
MISSING, INSTALL = "take the package gguf, which is not installed", "pip install gguf"
_PIECE = 1 << 20
"""Numbers that are unpacked at a time."""
# The format's kinds of values by their numbers, as `struct` calls them.
_SCALARS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd"))
_TEXT, _LIST, _INTEGERS = 8, 9, "BbHhIiQq"
_PLAIN = {
    0: torch.float32, 1: torch.float16, 24: torch.int8, 25: torch.int16, 26: torch.int32, 27: torch.int64,
    28: torch.float64, 30: torch.bfloat16,
}  # fmt: skip
_PACKED = {
    2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210), 20: ("IQ4_NL", 32, 18), 23: ("IQ4_XS", 256, 136),
}  # fmt: skip
"""Number of a packing to its name, the numbers of a block, and the bytes of a block."""
_UNREAD = {
    9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 21: "IQ3_S", 22: "IQ2_S",
    29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4",
}  # fmt: skip


def opens(path: Path, head: bytes) -> TensorFile | None:
    """The file, whose first bytes are `head`; None where it is of another format.

    Raises CheckpointError for a file that is damaged, of another model's architecture, or packed in a way not read.
    """
    if not head.startswith(b"GGUF"):
        return None
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            header = _Header(data)
            version, tensors, fields = header.take("I"), header.take("Q"), header.take("Q")
            if version not in (2, 3):
                raise CheckpointError(
                    f"{path.name} is a GGUF file of version {version}; 2 and 3 are read",
                    "download a newer conversion of the model.",
                )
            values = header.fields(fields)
            _refuse_others(path, values)
            if not tensors:
                raise ValueError("there are no tensors in it")
            infos = [header.info() for _ in range(_bounded(tensors, MAX_TENSORS, "tensors"))]
    except (ValueError, OverflowError) as error:
        raise CheckpointError(f"{path.name} is a damaged GGUF file: {error}", _AGAIN) from error
    texts = {key: str(value) for key, value in values.items() if not isinstance(value, tuple)}
    return TensorFile(path, "gguf", _tree(path, values, infos, header.at), texts, parts=(path,))


def lists(path: Path, keys: Iterable[str]) -> dict[str, tuple]:
    """Long lists in the header of a file that was opened, by their keys; those that are not there are left out."""
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        header = _Header(data, frozenset(keys))
        _, _, fields = header.take("I"), header.take("Q"), header.take("Q")
        values = header.fields(fields)
    return {key: values[key] for key in keys if isinstance(values.get(key), tuple)}


def unpacks(packings: Iterable[str]) -> bool:
    """Whether weights of these packings can be read here: they take the package gguf."""
    return not any(packings) or find_spec("gguf") is not None


@dataclass
class _Header:
    """Reads a header from front to back; every count is judged before it is believed."""

    data: mmap.mmap
    whole: frozenset[str] = frozenset()
    """Keys whose lists are read however long they are."""
    at: int = field(default=4, init=False)  # behind `GGUF`
    texts: int = field(default=0, init=False)

    def skip(self, count: int) -> int:
        """Where the next `count` bytes begin."""
        start = self.at
        if count > min(len(self.data), _MAX_HEADER) - start:
            what = (
                "it is cut off inside its header" if len(self.data) < _MAX_HEADER else "its header is endless"
            )
            raise ValueError(what)
        self.at += count
        return start

    def take(self, kind: str) -> Any:
        size = struct.calcsize(f"<{kind}")
        return struct.unpack_from(f"<{kind}", self.data, self.skip(size))[0]

    def text(self, most: int = _MAX_HEADER) -> str:
        length = _bounded(self.take("Q"), most, "bytes in a name or text")
        start = self.skip(length)
        return self.data[start : start + length].decode("utf-8", errors="replace")

    def fields(self, count: int) -> dict[str, Any]:
        """Values by their keys; lists longer than a shape are passed over, but for those that are wanted whole."""
        values: dict[str, Any] = {}
        for _ in range(_bounded(count, _MAX_FIELDS, "values")):
            key = self.text(_MAX_NAME)
            value = self.value(self.take("I"), key in self.whole)
            if value is not None:
                values[key] = value
        return values

    def value(self, kind: int, whole: bool = False) -> Any:
        if kind == _TEXT:
            return self.text()
        if kind in _SCALARS:
            return self.take(_SCALARS[kind])
        if kind != _LIST:
            raise ValueError(f"a value of the kind {kind}")
        inner, count = self.take("I"), self.take("Q")
        if inner in _SCALARS:
            letter = _SCALARS[inner]
            start = self.skip(count * struct.calcsize(f"<{letter}"))
            wanted = whole or (count <= MAX_AXES and letter in _INTEGERS)
            return struct.unpack_from(f"<{count}{letter}", self.data, start) if wanted else None
        if inner != _TEXT:
            raise ValueError(f"a list of the kind {inner}")
        self.texts += _bounded(count, _MAX_TEXTS - self.texts, "texts")
        if whole:
            return tuple(self.text() for _ in range(count))
        for _ in range(count):
            self.skip(self.take("Q"))
        return None

    def info(self) -> tuple[str, tuple[int, ...], int, int]:
        """Name, shape (outermost axis first), packing and offset of one tensor."""
        name = self.text(_MAX_NAME)
        axes = _bounded(self.take("I"), MAX_AXES, "axes")
        shape = tuple(_bounded(self.take("Q"), MAX_SIDE, "numbers on an axis") for _ in range(axes))
        return name, shape[::-1], self.take("I"), self.take("Q")


def _bounded(count: int, most: int, what: str) -> int:
    if count > most:
        raise ValueError(f"{count} {what}")
    return count


def _alignment(values: Mapping[str, Any]) -> int:
    alignment = values.get("general.alignment", 32)
    if type(alignment) is not int or alignment % 8 or not 8 <= alignment <= 1 << 20:
        raise ValueError(f"tensors that begin at multiples of {plain(alignment, 20)}")
    return alignment


def _refuse_others(path: Path, values: Mapping[str, Any]) -> None:
    """Raises for a model of another kind, and for a piece of a file."""
    architecture = values.get("general.architecture")
    if architecture is not None and architecture not in ARCHITECTURES:
        raise CheckpointError(
            f"{path.name} is a GGUF file of the architecture {plain(architecture, 40)}, no part of Wan",
            "choose a GGUF file of Wan 2.1 (architecture wan) or of its text encoder UMT5 (t5encoder).",
        )
    pieces = values.get("split.count", 0)
    if pieces not in (0, 1):
        raise CheckpointError(
            f"{path.name} is one of {plain(pieces, 20)} pieces of a GGUF file",
            "put them together with llama.cpp's `gguf-split --merge`, and give the whole file.",
        )


class _Mapping:
    """The file's bytes, mapped read-only when the first tensor is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def bytes(self) -> Tensor:
        import numpy

        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "The given NumPy array is not writable")
                return torch.from_numpy(numpy.memmap(self.path, mode="r"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{self.path.name} cannot be read: {plain(error, 200)}", _AGAIN) from error

    def read(self, dtype: torch.dtype, start: int, shape: tuple[int, ...]) -> Tensor:
        return self.bytes[start : start + math.prod(shape) * dtype.itemsize].view(dtype).view(shape)


def _tree(
    path: Path, values: Mapping[str, Any], infos: list[tuple[str, tuple[int, ...], int, int]], at: int
) -> dict[str, LazyTensor]:
    """Names to tensors, behind a header that ends `at`. Raises CheckpointError where the file does not hold what that
    says."""
    handle, actual, tree = _Mapping(path), path.stat().st_size, dict[str, LazyTensor]()
    try:
        alignment = _alignment(values)
        # Offsets count from the first aligned place behind the header.
        end = start = -(-at // alignment) * alignment
        # In the order of their places: what begins before the end of the last lies over it.
        for name, shape, kind, offset in sorted(infos, key=lambda info: info[3]):
            dtype, lying = _as_it_lies(path, name, shape, kind)
            if name in tree or offset % alignment or start + offset < end:
                raise ValueError("tensors of one name, between their places, or over each other")
            stored = LazyTensor(dtype, lying, partial(handle.read, dtype, start + offset, lying))
            end = start + offset + stored.nbytes
            tree[name] = _tensor(stored, kind, _true_shape(values, name, shape))
    except ValueError as error:
        raise CheckpointError(f"{path.name} is a damaged GGUF file: {error}", _AGAIN) from error
    if end > actual:
        raise CheckpointError(
            f"{path.name} is cut off: {actual} bytes ({exact_size(actual)}) where its header needs "
            f"{end} ({exact_size(end)})",
            _AGAIN,
        )
    return {name: tree[name] for name, *_ in infos}


def _as_it_lies(
    path: Path, name: str, shape: tuple[int, ...], kind: int
) -> tuple[torch.dtype, tuple[int, ...]]:
    """Type and shape in the file: of plain numbers, or of rows of packed bytes."""
    if kind in _PLAIN:
        return _PLAIN[kind], shape
    if kind not in _PACKED:
        raise CheckpointError(
            f"{path.name} stores {plain(name, 80)} as {_UNREAD.get(kind, f'packing number {kind}')}, which is not read",
            f"use a file of the same model packed as one of {', '.join(name for name, *_ in _PACKED.values())}.",
        )
    _, numbers, size = _PACKED[kind]
    if not shape or not shape[-1] or shape[-1] % numbers:
        raise ValueError(f"{plain(name, 80)} with rows of {shape[-1:]} numbers")
    return torch.uint8, (*shape[:-1], shape[-1] // numbers * size)


def _true_shape(values: Mapping[str, Any], name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape before a converter folded axes, where it has left a note of it."""
    noted = values.get(f"comfy.gguf.orig_shape.{name}", shape)
    if not isinstance(noted, tuple) or min(noted, default=0) < 0 or math.prod(noted) != math.prod(shape):
        raise ValueError(f"{plain(name, 80)} of the shape {list(shape)} was {plain(noted, 80)}")
    return noted


def _tensor(stored: LazyTensor, kind: int, shape: tuple[int, ...]) -> LazyTensor:
    if kind in _PLAIN:
        return LazyTensor(stored.dtype, shape, lambda: stored.load().view(shape))
    fill = partial(_unpack, stored, kind)
    return LazyTensor(torch.float32, shape, partial(filled, shape, fill), fill, stored, _PACKED[kind][0])


def _unpack(packed: LazyTensor, kind: int, out: Tensor) -> None:
    """The numbers into `out`, computed in float32 a few rows at a time, which needs little memory beside the result."""
    named, numbers, size = _PACKED[kind]
    try:
        from gguf import GGMLQuantizationType, dequantize
    except ModuleNotFoundError as error:
        raise CheckpointError(f"weights packed as {named} {MISSING}", INSTALL) from error
    width = packed.shape[-1] // size * numbers
    rows = packed.load().reshape(-1, packed.shape[-1])  # rows bytes
    step = max(1, _PIECE // width) if width else 1
    for target, source in zip(out.view(len(rows), width).split(step), rows.split(step)):
        target.copy_(torch.from_numpy(dequantize(source.numpy(), GGMLQuantizationType(kind))))
