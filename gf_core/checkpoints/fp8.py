"""Undoes scaled fp8: each `X.weight` in float8 times its `X.scale_weight`, as ComfyUI's scaled files mean it.

Only the reading is undone (to float32, then whatever the loader wants); nothing is computed in fp8 here.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..files.tensors import LazyTensor

MARKER = "scaled_fp8"
_SCALE, _INPUT_SCALE = ".scale_weight", ".scale_input"


def unscaled(tensors: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    """`tensors` with scales folded into their weights and the markers of the format taken out.

    Input scales serve fp8 multiplication only and are dropped.
    """
    out: dict[str, LazyTensor] = {}
    for name, tensor in tensors.items():
        if name == MARKER or name.endswith((_SCALE, _INPUT_SCALE)):
            continue
        scale = tensors.get(name.removesuffix(".weight") + _SCALE) if name.endswith(".weight") else None
        if scale is not None:
            out[name] = LazyTensor(torch.float32, tensor.shape, _product(tensor, scale))
        else:
            out[name] = tensor
    return out


def _product(weight: LazyTensor, scale: LazyTensor):
    def load() -> Tensor:
        factor = scale.load().float()
        if factor.numel() not in (1, *weight.shape[:1]):
            raise CheckpointError(
                f"a weight of {list(weight.shape)} comes with {factor.numel()} scales",
                "the file is damaged or of a format that cannot be read yet; use the bf16 version of this model.",
            )
        # One factor for all, or one per output row.
        shape = (-1, *[1] * (len(weight.shape) - 1)) if factor.numel() > 1 else ()
        return weight.load().float() * factor.reshape(shape)

    return load
