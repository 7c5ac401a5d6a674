"""A model file whose tensors are still on disk: what every format is opened as."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import CheckpointError


@dataclass(frozen=True)
class LazyTensor:
    """A tensor that is still on disk."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    load: Callable[[], Tensor] = field(repr=False, compare=False)
    """Reads the tensor (CPU, as stored; memory-mapped where the format allows)."""

    fill: Callable[[Tensor], None] | None = field(default=None, repr=False, compare=False)
    """Writes the numbers into a tensor of any type, where that takes less memory than `load` and a conversion."""

    packed: LazyTensor | None = field(default=None, repr=False, compare=False)
    """The bytes in the file, where `load` makes numbers of them."""

    packing: str = ""
    """Name of the way in which they are packed, such as `Q4_K`; empty for plain numbers."""

    rows: Callable[[], tuple[Tensor, Tensor]] | None = field(default=None, repr=False, compare=False)
    """Reads a weight [out in] as it lies there in float8 (e4m3) and the scale [out] of its rows, float32, where `load`
    makes numbers of just these."""

    def copied(self, dtype: torch.dtype, device: str | torch.device = "cpu") -> Tensor:
        """The tensor as `dtype` in memory of its own: mapped weights are unaligned and lock their file on Windows."""
        out = torch.empty(self.shape, dtype=dtype, device=device)
        self.copy_to(out)
        return out

    def copy_to(self, out: Tensor) -> None:
        """Writes the numbers into `out`, a tensor of this shape, of any type and anywhere."""
        if self.fill is None:
            out.copy_(self.load())
        else:
            self.fill(out)

    @property
    def stored(self) -> LazyTensor:
        """The tensor as it lies in the file."""
        return self.packed or self

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return self.packed.nbytes if self.packed else self.numel * self.dtype.itemsize


def check_shapes(
    what: str, wanted: Mapping[str, tuple[int, ...]], tensors: Mapping[str, LazyTensor], fix: str
) -> None:
    """Raises CheckpointError with a few examples unless names and shapes are those `wanted`, for `what`."""
    found = {
        "missing": [name for name in wanted if name not in tensors],
        "unexpected": [name for name in tensors if name not in wanted],
        "of another shape": [n for n, shape in wanted.items() if n in tensors and tensors[n].shape != shape],
    }
    problems = [
        f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for kind, names in found.items()
        if names
    ]
    if problems:
        raise CheckpointError(
            f"the file does not fit {what}: of {len(wanted)} tensors {', '.join(problems)}", fix
        )


def filled(shape: tuple[int, ...], fill: Callable[[Tensor], None]) -> Tensor:
    """What `fill` writes, as a float32 tensor."""
    out = torch.empty(shape)
    fill(out)
    return out


@dataclass(frozen=True)
class TensorFile:
    """An opened model file or folder."""

    path: Path
    """What was asked for."""
    kind: Literal["safetensors", "pickle", "gguf", "folder"]
    """How it is stored."""
    tree: Mapping[str, Any]
    """Names to `LazyTensor`; pickles may nest mappings under outer keys."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Text metadata of a header."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """`config.json` of a folder."""
    parts: tuple[Path, ...] = ()
    """The files that hold the tensors."""

    @property
    def tensors(self) -> dict[str, LazyTensor]:
        """Those that lie under no outer key."""
        return {name: tensor for name, tensor in self.tree.items() if isinstance(tensor, LazyTensor)}
