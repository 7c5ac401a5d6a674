"""A safetensors file written piece by piece, so that gigabytes need not be waited for when nobody wants them any more.

Layout (safetensors): bytes of the header as a little-endian 64-bit number, the header as JSON, the tensors.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

PIECE = 64 << 20
"""Bytes written and pushed to the disk at a time: a blink, on a slow disk too."""
NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def tensor_bytes(tensor: Tensor) -> memoryview:
    """The bytes of a tensor in row order; no copy where it lies so in the computer's memory."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")


def pieces(tensor: Tensor) -> Iterator[memoryview]:
    """Its bytes, at most `PIECE` at a time."""
    whole = tensor_bytes(tensor)
    return (whole[at : at + PIECE] for at in range(0, len(whole), PIECE))


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, str], check: Callable[[], None]
) -> None:
    """Write `tensors`, and `notes` into the header; `check` is called between pieces and may raise to stop.

    Raises:
        OSError: the file cannot be written.
    """
    header: dict[str, object] = {"__metadata__": dict(notes)}
    end = 0
    for name, tensor in tensors.items():
        header[name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [end, end + tensor.nbytes],
        }
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
