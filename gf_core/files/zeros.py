"""Weights that no training leaves: a file that has its length from the start of a download, and not yet its rest."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..words import plain
from .lazy import LazyTensor

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
            f"{name} is not whole: {len(empty)} of {len(large)} large weights hold nothing but zeros at their "
            f"beginning, middle and end, first {plain(empty[0], 80)}",
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
