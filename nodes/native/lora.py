"""LoRA files of any naming put on a native MODEL: renamed to what the host matches."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from ...gf_core.checkpoints.lora import Lora
from ...gf_core.errors import CheckpointError
from ...gf_core.words import counted

log = logging.getLogger("grounded")
PREFIX = "diffusion_model."
PARTS = {"down": ".lora_A.weight", "up": ".lora_B.weight", "diff": ".diff", "diff_b": ".diff_b"}


def host_names(lora: Lora) -> dict[str, Tensor]:
    """The LoRA's tensors under names that every ComfyUI matches."""
    tensors = {
        f"{PREFIX}{module}{PARTS[part]}": tensor.load()
        for module, update in lora.updates.items()
        for part, tensor in update.parts.items()
        if part in PARTS
    }
    for module, update in lora.updates.items():
        if "down" not in update.parts:
            continue
        scale, rank = update.factor(1.0, lora.alpha_of(module)), update.parts["down"].shape[0]
        if scale != 1:
            tensors[f"{PREFIX}{module}.alpha"] = torch.tensor(scale * rank)
        if "up_bias" in update.parts:  # the host knows no bias of a half
            bias = scale * update.parts["up_bias"].load().float()
            tensors[f"{PREFIX}{module}.diff_b"] = tensors.get(f"{PREFIX}{module}.diff_b", 0) + bias
    return tensors


def put_on(model: Any, lora: Lora) -> Any:
    """A clone of MODEL with the LoRA, which was opened for its shapes, on it.

    Raises CheckpointError: the host matches none of it.
    """
    import comfy.sd

    patched, _ = comfy.sd.load_lora_for_models(model, None, host_names(lora), lora.strength, 0.0)
    if updates(patched) == updates(model):
        raise CheckpointError(
            f"{lora.name}: ComfyUI matched none of its {counted(len(lora.updates), 'update')}",
            "choose a LoRA for Wan 2.1 text-to-video.",
        )
    log.info("LoRA %s: %d updates at strength %g", lora.name, len(lora.updates), lora.strength)
    return patched


def updates(patcher: Any) -> int:
    """Patches on a MODEL; a weight may have several."""
    return sum(len(patches) for patches in patcher.patches.values())
