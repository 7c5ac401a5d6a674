"""What lies where a model file should be and is none: half a download, a pipe, a picture, a text, zeros."""

from __future__ import annotations

import logging
import stat
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..words import part_of, plain
from .lazy import LazyTensor
from .names import PICKLE_SUFFIXES

log = logging.getLogger("grounded")
UNFINISHED = (".aria2", ".part", ".crdownload", ".incomplete")
"""What downloaders append to the name of what they are writing, or of their notes about it."""
MAX_TEXT = 16_000_000
"""Bytes of the longest header or JSON that is read: twenty times that of the largest published models."""
MAX_SIDE, MAX_AXES = 2**40, 16
"""Beyond any tensor's: products of larger numbers take minutes."""
MAX_TENSORS = 50_000
"""Of one file: LoRAs of the largest models have a tenth."""


def start_of(path: Path, most: int) -> bytes:
    """The first bytes of a file; what is no file is refused, as a pipe would wait for ever and a device never end."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kind = "folder" if stat.S_ISDIR(mode) else "pipe" if stat.S_ISFIFO(mode) else "device"
        raise CheckpointError(f"{path.name} is a {kind}, not a file", "give the file itself.")
    with path.open("rb") as stream:
        return stream.read(most)


def refuse_unfinished(path: Path) -> None:
    """Raises for a file that a downloader is still writing; what may be left of another download is only told."""
    if path.suffix.lower() in UNFINISHED:
        raise CheckpointError(
            f"{path.name} is an unfinished download", "let it finish; its name changes then."
        )
    beside = next((f"{path.name}{end}" for end in UNFINISHED if Path(f"{path}{end}").exists()), None)
    # It writes into the file itself, of full length from the start.
    if beside is not None and beside.endswith(".aria2"):
        raise CheckpointError(
            f"the download of {path.name} is not finished: {beside} lies beside it",
            "let it finish, or start it again.",
        )
    if beside is not None:
        log.warning("%s lies beside %s: its download may not be finished", plain(beside), plain(path.name))


_SIGNS = (
    (0, b"\x89PNG", "a picture"), (0, b"\xff\xd8\xff", "a picture"), (4, b"ftyp", "a film or picture"),
    (0, b"\x1aE\xdf\xa3", "a film"), (0, b"RIFF", "a film, sound or picture"), (0, b"%PDF", "a document"),
    (0, b"\x1f\x8b", "a packed archive"), (0, b"7z\xbc\xaf", "a packed archive"), (0, b"Rar!", "a packed archive"),
)  # fmt: skip
"""Place, bytes and name of other kinds of file."""


def refuse_foreign(path: Path, head: bytes) -> None:
    """Raises for content that is recognisably something else than tensors."""
    if not head:
        raise CheckpointError(f"{path.name} is empty (0 bytes)", "download it again.")
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path.name} is a Git LFS pointer ({path.stat().st_size} bytes), not the model itself",
            "run `git lfs pull` in that folder, or download the file from its page.",
        )
    if head.lstrip()[:5].lower() in (b"<!doc", b"<html"):
        raise CheckpointError(
            f"{path.name} is a web page, not a model",
            "the download needs a direct link or a signed-in account; fetch the file itself.",
        )
    if not any(head):
        raise CheckpointError(
            f"{path.name} begins with {len(head)} zeros", "download it again; the download did not finish."
        )
    kind = next((kind for at, sign, kind in _SIGNS if head.startswith(sign, at)), None)
    text = head.decode("utf-8", errors="ignore")
    if (
        kind is None
        and len(text) > 0.9 * len(head)
        and all(sign.isprintable() or sign.isspace() for sign in text)
    ):
        kind = f"a text file (it begins {plain(text.strip(), 40)!r})"
    if kind is not None:
        raise CheckpointError(
            f"{path.name} is {kind}, not a safetensors, PyTorch or GGUF file",
            "choose the model's file; where a download left this, fetch the file itself.",
        )
    if path.suffix.lower() in PICKLE_SUFFIXES:
        raise CheckpointError(
            f"{path.name} is not a PyTorch file: its first bytes are {head[:4]!r}",
            "download it again; if that does not help, the file at the source is not a model.",
        )


_LARGE, _SPOT = 100_000, 128
"""Bytes of a weight that is looked into, and numbers that are looked at in one place."""


def refuse_zeros(name: str, tensors: Mapping[str, LazyTensor]) -> None:
    """Raises for weights that no training leaves: all zero, as in the rest of a download that has its length already.

    Of each large weight some numbers at the beginning, in the middle and at the end are looked at.
    """
    large = [key for key, tensor in tensors.items() if _is_large_weight(key, tensor)]
    empty = [key for key in large if _is_zero(tensors[key].stored.load())]
    if empty:
        raise CheckpointError(
            f"{name} is not whole: {part_of(len(empty), len(large), 'large weight', 'holds', 'hold')} "
            f"nothing but zeros at their beginning, middle and end, first {plain(empty[0], 80)}",
            "download it again; the previous download did not finish.",
        )


def _is_large_weight(name: str, tensor: LazyTensor) -> bool:
    # Rows of an embedding that no text uses may well be zero.
    embedding = name.endswith(("shared.weight", "token_embedding.weight", "embed_tokens.weight"))
    return name.endswith(".weight") and not embedding and len(tensor.shape) > 1 and tensor.nbytes >= _LARGE


def _is_zero(tensor: Tensor) -> bool:
    flat = tensor.reshape(-1)
    middle = len(flat) // 2
    spots = (flat[:_SPOT], flat[middle : middle + _SPOT], flat[-_SPOT:])
    return not any(spot.contiguous().view(torch.uint8).any() for spot in spots)
