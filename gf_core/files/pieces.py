"""Tensors piece by piece: their digest, and files of them, so that gigabytes need not be waited for in one go.

Nothing here imports torch before it is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

PIECE = 64 << 20
"""Bytes written and pushed to the disk at a time: a blink, on a slow disk too."""


def digest(tensors: Mapping[str, Tensor], check: Callable[[], None] = lambda: None) -> str:
    """Tells two sets of tensors apart: hex SHA-256 over names, types, shapes and the CRC-32 of each tensor's bytes.

    CRC-32 because they can be gigabytes, and SHA-256 over all of it takes two to four times as long. `check` is
    called between pieces and may raise to stop.
    """
    lines = []
    for name, value in sorted(tensors.items()):
        crc = 0
        for piece in pieces(value):
            check()
            crc = zlib.crc32(piece, crc)
        lines.append(f"{name} {value.dtype} {list(value.shape)} {crc:08x}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def pieces(tensor: Tensor) -> Iterator[memoryview]:
    """The bytes of a tensor in row order, at most `PIECE` at a time; no copy where it lies so in memory."""
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    whole = flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")
    return (whole[at : at + PIECE] for at in range(0, len(whole), PIECE))


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    notes: Mapping[str, str],
    check: Callable[[], None] = lambda: None,
) -> None:
    """Write `tensors`, and `notes` into the header; `check` is called between pieces and may raise to stop.

    Layout (safetensors): bytes of the header as a little-endian 64-bit number, the header as JSON, the tensors.

    Raises OSError: the file cannot be written.
    """
    from .safetensors_file import SAFETENSORS_DTYPES

    names = {dtype: name for name, dtype in SAFETENSORS_DTYPES.items()}
    header: dict[str, object] = {"__metadata__": dict(notes)}
    end = 0
    # The wider ones first, so that each begins at a multiple of its numbers' width.
    tensors = dict(sorted(tensors.items(), key=lambda item: -item[1].itemsize))
    for name, tensor in tensors.items():
        place = [end, end + tensor.nbytes]
        header[name] = {"dtype": names[tensor.dtype], "shape": list(tensor.shape), "data_offsets": place}
        end += tensor.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a whole word
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            for piece in pieces(tensor):
                check()
                file.write(piece)
                if len(piece) == PIECE:  # all at once in the end would be one long wait
                    file.flush()
                    os.fsync(file.fileno())


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, and the notes in its header.

    Copies, not mapped: Windows neither removes nor replaces a file that is mapped, and one that becomes shorter ends
    the process that goes on reading it.

    Raises OSError, SafetensorError: there is none, or it is damaged.
    """
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        notes = file.metadata() or {}
        return {name: file.get_tensor(name).clone() for name in file.keys()}, notes  # noqa: SIM118
