"""Plain bidirectional Wan: our tree without a memory, as teachers, critics and other code bases run it."""

from __future__ import annotations

import torch
from torch import Tensor

from ..attention import attend
from ..config import ModelSpec
from ..rope import rotate, turns
from .forward import Call, text_kv, time_conditioning
from .layers import Tree


class Bidirectional:
    """Self-attention of a call with no memory: every frame sees every frame, time positions 0, 1, 2, ..."""

    def __init__(self, turn: Tensor) -> None:
        """turn: `rope.turns` of all frames."""
        self._turn = turn

    def attend(self, layer: int, q: Tensor, raw_k: Tensor, v: Tensor) -> Tensor:
        """Attention of all tokens over all of them; [b s h d]."""
        return attend(rotate(q, self._turn), rotate(raw_k, self._turn), v)

    def write(self, layer: int, raw_k: Tensor, v: Tensor) -> None:
        """Nothing is kept."""


def bidirectional_flow(
    model: Tree, spec: ModelSpec, latents: Tensor, timesteps: Tensor, prompt_embeds: Tensor
) -> Tensor:
    """Plain Wan: flow [b f c h w] of latents [b f c h w], timesteps [b f] or [b 1], prompts [b rows text_dim]."""
    frames, height, width = latents.shape[1], latents.shape[3], latents.shape[4]
    rows, columns = height // spec.patch_size[1], width // spec.patch_size[2]
    turn = turns(torch.arange(frames, device=latents.device), rows, columns, spec.head_dim)
    time = time_conditioning(model, timesteps, latents.dtype)
    text = text_kv(model, prompt_embeds, spec.text_len)
    flow = Call(model, latents, time, text, Bidirectional(turn)).run()
    assert flow is not None  # asked for
    return flow
