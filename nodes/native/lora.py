"""LoRA files of any naming put on a native MODEL: renamed to what the host matches, refused when nothing fits."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ...gf_core.checkpoints.lora import Lora
from ...gf_core.errors import CheckpointError

log = logging.getLogger("grounded")
PREFIX = "diffusion_model."
PARTS = {
    "down": ".lora_A.weight",
    "up": ".lora_B.weight",
    "alpha": ".alpha",
    "diff": ".diff",
    "diff_b": ".diff_b",
}


def host_names(lora: Lora) -> dict[str, Tensor]:
    """The LoRA's tensors under names that every ComfyUI matches."""
    tensors = {
        f"{PREFIX}{module}{PARTS[part]}": tensor.load()
        for module, update in lora.updates.items()
        for part, tensor in update.parts.items()
    }
    if lora.alpha is not None:  # PEFT writes it beside the file
        for module, update in lora.updates.items():
            if "down" in update.parts:
                tensors.setdefault(f"{PREFIX}{module}.alpha", torch.tensor(lora.alpha))
    return tensors


def put_on(model: Any, lora: Lora, modules: Iterable[str]) -> Any:
    """A clone of MODEL with the LoRA on it; `modules` are the model's own module names.

    Raises:
        CheckpointError: no update fits the model.
    """
    import comfy.sd

    there = set(modules)
    strange = [module for module in lora.updates if module not in there]
    fits = len(lora.updates) - len(strange)
    if not fits:
        raise CheckpointError(
            f"{lora.name}: none of its {len(lora.updates)} updates fits the model, first {strange[0]}",
            "this LoRA was made for another model; choose one for Wan 2.1 text-to-video.",
        )
    if strange:
        log.warning("%s: %d of %d updates do not fit the model", lora.name, len(strange), len(lora.updates))
    known = Lora(lora.name, {m: u for m, u in lora.updates.items() if m in there}, lora.strength, lora.alpha)
    patched, _ = comfy.sd.load_lora_for_models(model, None, host_names(known), lora.strength, 0.0)
    if _updates(patched) == _updates(model):
        raise CheckpointError(
            f"{lora.name}: ComfyUI matched none of its {fits} updates",
            "the LoRA has shapes of another model; choose one for Wan 2.1 text-to-video.",
        )
    log.info("LoRA %s: %d updates at strength %g", lora.name, fits, lora.strength)
    return patched


def _updates(patcher: Any) -> int:
    """Patches on a MODEL; a weight may have several."""
    return sum(len(patches) for patches in patcher.patches.values())
