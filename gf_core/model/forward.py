"""One network call over a chunk of latent frames, on any Wan-shaped tree (paper 4.2 leaves the network as it is).

The same function serves denoising steps, clean passes, recaches and plain bidirectional Wan: what differs is who
answers `SelfAttention`, and whether the flow is wanted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from ..attention import attend
from ..config import ModelSpec
from ..rope import rotate, turns
from . import layers
from .layers import Tree

TextKV = Sequence[tuple[Tensor, ...]]
"""Cross-attention keys and values [b s h d] of every layer, and the bias on their logits where there is one."""


class SelfAttention(Protocol):
    """What a call may see and what it leaves behind."""

    def attend(self, layer: int, q: Tensor, raw_k: Tensor, v: Tensor) -> Tensor:
        """Attention output [b s h d] for one layer's fresh q, raw k, v [b s h d]."""
        ...

    def write(self, layer: int, raw_k: Tensor, v: Tensor) -> None:
        """Keep k and v of a layer whose output nobody needs."""
        ...


def text_kv(model: Tree, prompt_embeds: Tensor, text_len: int) -> list[tuple[Tensor, ...]]:
    """Cross-attention keys and values of every layer for a prompt [b rows text_dim].

    A prompt is padded with zero rows up to text_len and the padding is attended. Padding rows are all alike, so in
    float32 one of them stands for all, its logit raised by the log of their number: exact, and a tenth of the work
    for a short prompt. Narrower floats would round that logarithm and get every row.
    """
    rows = prompt_embeds.shape[1]
    padding = text_len - rows
    whole = any(layers.replaced(block.cross_attn) for block in model.blocks)
    if padding < 2 or prompt_embeds.dtype != torch.float32 or whole:
        context = layers.embed_text(model, prompt_embeds, text_len)
        return [layers.cross_kv(block, context) for block in model.blocks]
    context = layers.embed_text(model, prompt_embeds, rows + 1)
    bias = torch.zeros(1, 1, 1, rows + 1, device=context.device)
    bias[..., -1] = math.log(padding)
    return [(*layers.cross_kv(block, context), bias) for block in model.blocks]


def trimmed(prompt_embeds: Tensor) -> Tensor:
    """A prompt [b rows text_dim] without the zero rows that pad it; at least one row stays."""
    used = prompt_embeds.ne(0).any(-1).any(0).nonzero()
    return prompt_embeds[:, : int(used[-1]) + 1 if len(used) else 1]


def call(
    model: Tree,
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

    def __init__(self, turn: Tensor) -> None:
        self._turn = turn

    def attend(self, layer: int, q: Tensor, raw_k: Tensor, v: Tensor) -> Tensor:
        return attend(rotate(q, self._turn), rotate(raw_k, self._turn), v)

    def write(self, layer: int, raw_k: Tensor, v: Tensor) -> None:
        """Nothing is kept."""


@torch.no_grad()
def bidirectional_flow(
    model: Tree, spec: ModelSpec, latents: Tensor, timesteps: Tensor, prompt_embeds: Tensor
) -> Tensor:
    """Plain Wan: flow [b f c h w] of latents [b f c h w], timesteps [b f] or [b 1], prompts [b rows text_dim]."""
    frames, height, width = latents.shape[1], latents.shape[3], latents.shape[4]
    rows, columns = height // spec.patch_size[1], width // spec.patch_size[2]
    turn = turns(torch.arange(frames, device=latents.device), rows, columns, spec.head_dim)
    time = layers.time_conditioning(model, timesteps, latents.dtype)
    text = text_kv(model, prompt_embeds, spec.text_len)
    flow = call(model, latents, time, text, Bidirectional(turn))
    assert flow is not None  # asked for
    return flow
