"""One network call over a chunk of latent frames, on any Wan-shaped tree (paper 4.2 leaves the network as it is).

The same function serves denoising steps, clean passes, recaches and plain bidirectional Wan: what differs is who
answers `SelfAttention`, and whether the flow is wanted. Our own tree is called as a module, which comes back here
(`WanModel.forward`); a host's is walked from outside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from ..attention import Kernel, attend, sdpa
from ..config import ModelSpec
from ..rope import rotate, turns
from . import layers
from .layers import Own, Text, Time, Tree

TextKV = Sequence[Text]
"""The prompt as the cross-attention of every layer reads it."""


class SelfAttention(Protocol):
    """What a call may see and what it leaves behind."""

    def attend(self, layer: int, q: Tensor, raw_k: Tensor, v: Tensor) -> Tensor:
        """Attention output [b s h d] for one layer's fresh q, raw k, v [b s h d]."""
        ...

    def write(self, layer: int, raw_k: Tensor, v: Tensor) -> None:
        """Keep k and v of a layer whose output nobody needs."""
        ...


def text_kv(model: Tree, prompt_embeds: Tensor, text_len: int, kernel: Kernel = sdpa) -> list[Text]:
    """A prompt [b rows text_dim] for every layer's cross-attention, to be computed by `kernel`."""
    if isinstance(model, Own):
        return model.text_kv(prompt_embeds, text_len, kernel)
    return embed_prompt(model, prompt_embeds, text_len, kernel)


def embed_prompt(model: Tree, prompt_embeds: Tensor, text_len: int, kernel: Kernel) -> list[Text]:
    """The same from outside.

    A prompt is padded with zero rows up to text_len and the padding is attended. Padding rows are all alike, so in
    float32 one of them stands for all, its logit raised by the log of their number: exact, and a tenth of the work
    for a short prompt. Narrower floats would round that logarithm and get every row.
    """
    rows = prompt_embeds.shape[1]
    padding = text_len - rows
    whole = any(layers.replaced(block.cross_attn) for block in model.blocks)
    bias = None
    if padding < 2 or prompt_embeds.dtype != torch.float32 or whole:
        context = layers.embed_text(model, prompt_embeds, text_len)
    else:
        context = layers.embed_text(model, prompt_embeds, rows + 1)
        bias = torch.zeros(1, 1, 1, rows + 1, device=context.device)
        bias[..., -1] = math.log(padding)
    return [block_text(block, context, bias, kernel) for block in model.blocks]


def block_text(block: Tree, context: Tensor, bias: Tensor | None = None, kernel: Kernel = sdpa) -> Text:
    """`layers.cross_kv`, through the block where it is ours."""
    make = block.text_kv if isinstance(block, Own) else partial(layers.cross_kv, block)
    return make(context, bias, kernel)


def trimmed(prompt_embeds: Tensor) -> Tensor:
    """A prompt [b rows text_dim] without the zero rows that pad it; at least one row stays."""
    used = prompt_embeds.ne(0).any(-1).any(0).nonzero()
    return prompt_embeds[:, : int(used[-1]) + 1 if len(used) else 1]


def time_conditioning(model: Tree, timesteps: Tensor, dtype: torch.dtype) -> Time:
    """`layers.time_conditioning`, through the module where it is ours."""
    return (
        model.time(timesteps, dtype)
        if isinstance(model, Own)
        else layers.time_conditioning(model, timesteps, dtype)
    )


def call(
    model: Tree, latents: Tensor, time: Time, text: TextKV, memory: SelfAttention, want_flow: bool = True
) -> Tensor | None:
    """Flow [b f c h w] of latents [b f c h w] under `time_conditioning` values and a prompt's `text_kv`.

    Without `want_flow` the call ends at the last layer's keys and values, all that a clean pass needs.
    """
    if isinstance(model, Own):
        return model(latents, time, text, memory, want_flow)
    return walk(model, latents, time, text, memory, want_flow)


def walk(
    model: Tree, latents: Tensor, time: Time, text: TextKV, memory: SelfAttention, want_flow: bool
) -> Tensor | None:
    """The same from outside: patches, blocks, head."""
    e, e0 = time
    x = layers.embed_patches(model, latents.transpose(1, 2))  # b (f h w) c
    last = len(model.blocks) - 1
    for i, block in enumerate(model.blocks):
        own = isinstance(block, Own)
        if i == last and not want_flow:
            memory.write(i, *(block.keys(x, e0) if own else layers.block_keys(block, x, e0)))
            return None

        def self_attend(q: Tensor, raw_k: Tensor, v: Tensor, layer: int = i) -> Tensor:
            return memory.attend(layer, q, raw_k, v)

        x = (
            block(x, e0, self_attend, text[i])
            if own
            else layers.run_block(block, x, e0, self_attend, text[i])
        )
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


def bidirectional_flow(
    model: Tree, spec: ModelSpec, latents: Tensor, timesteps: Tensor, prompt_embeds: Tensor
) -> Tensor:
    """Plain Wan: flow [b f c h w] of latents [b f c h w], timesteps [b f] or [b 1], prompts [b rows text_dim]."""
    frames, height, width = latents.shape[1], latents.shape[3], latents.shape[4]
    rows, columns = height // spec.patch_size[1], width // spec.patch_size[2]
    turn = turns(torch.arange(frames, device=latents.device), rows, columns, spec.head_dim)
    time = time_conditioning(model, timesteps, latents.dtype)
    text = text_kv(model, prompt_embeds, spec.text_len)
    flow = call(model, latents, time, text, Bidirectional(turn))
    assert flow is not None  # asked for
    return flow
