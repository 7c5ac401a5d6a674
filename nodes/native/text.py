"""A host's CLIP as the engine's text encoder: Wan's UMT5 under any loader that ComfyUI has."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ...gf_core.errors import CheckpointError
from ...gf_core.model.forward import trimmed
from .fingerprint import fingerprint

log = logging.getLogger("grounded")
TOKENS = "umt5xxl"
"""Name of Wan's tokens in every host."""
FIX = (
    "connect the CLIP of Load Model, or a CLIPLoader of type `wan` with umt5_xxl_fp8_e4m3fn_scaled.safetensors "
    "(Comfy-Org/Wan_2.1_ComfyUI_repackaged)"
)


class NativeText:
    """Encodes prompts with a CLIP; the host loads it when it is needed, which may push the model out.

    Raises CheckpointError: the CLIP is of another model family.
    """

    def __init__(self, clip: Any, text_dim: int, text_len: int) -> None:
        kinds = clip.tokenize("")
        if TOKENS not in kinds:
            raise CheckpointError(
                f"the CLIP reads {', '.join(kinds)} tokens, and the model was trained with UMT5-XXL", FIX
            )
        self._clip, self._dim, self._rows = clip, text_dim, text_len
        layer = getattr(clip, "layer_idx", None)
        self.fingerprint = fingerprint(clip.patcher) + ("" if layer is None else f" layer {layer}")

    @property
    def check_words(self) -> Callable[[str, Sequence[tuple[int, str]]], None] | None:
        """What refuses words that the encoder does not know; None where it reads any text."""
        return getattr(getattr(self._clip, "tokenizer", None), "check_words", None)

    @torch.no_grad()
    def encode(self, prompts: list[str]) -> list[Tensor]:
        """Each prompt to float32 rows [rows, text_dim] on the CPU, without padding, cut to what the model reads."""
        return [self._encode(prompt) for prompt in prompts]

    def _encode(self, prompt: str) -> Tensor:
        import comfy.model_management as management

        management.throw_exception_if_processing_interrupted()  # a large encoder takes seconds per prompt
        cond = self._clip.encode_from_tokens_scheduled(self._clip.tokenize(prompt))[0][0]
        if cond.shape[-1] != self._dim:
            raise CheckpointError(
                f"the CLIP gives rows of {cond.shape[-1]} numbers, the model reads {self._dim}", FIX
            )
        rows = trimmed(cond[:1])
        if rows.shape[1] > self._rows:
            log.warning("a prompt of %d tokens was cut to %d: %.60s...", rows.shape[1], self._rows, prompt)
        return rows[0, : self._rows].float().cpu().clone()
