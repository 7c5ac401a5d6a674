"""One network call over a chunk of latent frames, on any Wan-shaped tree (paper 4.2 leaves the network as it is).

The same function serves denoising steps, clean passes, recaches and plain bidirectional Wan: what differs is who
answers `SelfAttention`, and whether the flow is wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from ..attention import attend
from ..config import ModelSpec
from ..rope import rotate, rotation
from . import layers

TextKV = Sequence[tuple[Tensor, Tensor]]
"""Cross-attention keys and values [b s h d] of every layer."""


class SelfAttention(Protocol):
    """What a call may see and what it leaves behind."""

    def attend(self, layer: int, q: Tensor, raw_k: Tensor, v: Tensor) -> Tensor:
        """Attention output [b s h d] for one layer's fresh q, raw k, v [b s h d]."""
        ...

    def write(self, layer: int, raw_k: Tensor, v: Tensor) -> None:
        """Keep k and v of a layer whose output nobody needs."""
        ...


def text_kv(model: nn.Module, prompt_embeds: Tensor, text_len: int) -> list[tuple[Tensor, Tensor]]:
    """Cross-attention keys and values of every layer for a prompt [b rows text_dim]."""
    context = layers.embed_text(model, prompt_embeds, text_len)
    return [layers.cross_kv(block, context) for block in model.blocks]


def call(
    model: nn.Module,
    latents: Tensor,
    time: tuple[Tensor, Tensor],
    text: TextKV,
    self_attention: SelfAttention,
    *,
    want_flow: bool = True,
) -> Tensor | None:
    """Flow [b f c h w] of latents [b f c h w] under `layers.time_conditioning` values and a prompt's `text_kv`.

    Without `want_flow` the call ends at the last layer's keys and values, all that a clean pass needs.
    """
    e, e0 = time
    x = layers.embed_patches(model, latents.transpose(1, 2))
    last = len(model.blocks) - 1
    for i, block in enumerate(model.blocks):
        if i == last and not want_flow:
            _, raw_k, v = layers.qkv(block, layers.attention_input(block, x, e0))
            self_attention.write(i, raw_k, v)
            return None
        x = layers.run_block(block, x, e0, lambda q, k, v, i=i: self_attention.attend(i, q, k, v), text[i])
    _, ph, pw = model.patch_embedding.kernel_size
    return layers.head(model, x, e, latents.shape[-2] // ph, latents.shape[-1] // pw).transpose(1, 2)


class Bidirectional:
    """Self-attention of a call with no memory: every frame sees every frame, time positions 0, 1, 2, ..."""

    def __init__(self, cos: Tensor, sin: Tensor) -> None:
        self._tables = cos, sin

    def attend(self, layer: int, q: Tensor, raw_k: Tensor, v: Tensor) -> Tensor:
        return attend(rotate(q, *self._tables), rotate(raw_k, *self._tables), v)

    def write(self, layer: int, raw_k: Tensor, v: Tensor) -> None:
        """Nothing is kept."""


@torch.no_grad()
def bidirectional_flow(
    model: nn.Module, spec: ModelSpec, latents: Tensor, timesteps: Tensor, prompt_embeds: Tensor
) -> Tensor:
    """Plain Wan: flow [b f c h w] of latents [b f c h w] at timesteps [b f] (or [b 1]) under prompts [b rows text_dim]."""
    frames, height, width = latents.shape[1], latents.shape[3], latents.shape[4]
    rows, columns = height // spec.patch_size[1], width // spec.patch_size[2]
    positions = torch.arange(frames, device=latents.device)
    tables = rotation(positions, rows, columns, spec.head_dim, dtype=torch.float32)
    time = layers.time_conditioning(model, timesteps, latents.dtype)
    text = text_kv(model, prompt_embeds, spec.text_len)
    flow = call(model, latents, time, text, Bidirectional(*tables))
    assert flow is not None  # asked for
    return flow
