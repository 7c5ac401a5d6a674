"""One network call over a chunk of latent frames, on any Wan-shaped tree (paper 4.2 leaves the network as it is).

The same function serves denoising steps, clean passes, recaches and plain bidirectional Wan: what differs is who
answers `SelfAttention`, and whether the flow is wanted. Our own tree is called as a module, which comes back here
(`WanModel.forward`); a host's is walked from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from ..attention import Kernel, sdpa
from . import layers
from .layers import Own, Text, Time, Tree
from .pieces import PLAIN, Pieces

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


def _of(module: Tree, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` of a host's module; of ours the method, so that what torch has hung on it acts."""
    return getattr(module, name) if isinstance(module, Own) else partial(function, module)


def text_kv(model: Tree, prompt_embeds: Tensor, text_len: int, kernel: Kernel = sdpa) -> list[Text]:
    """A prompt [b rows text_dim] for every layer's cross-attention, to be computed by `kernel`."""
    return _of(model, "text_kv", embed_prompt)(prompt_embeds, text_len, kernel)


def embed_prompt(model: Tree, prompt_embeds: Tensor, text_len: int, kernel: Kernel = sdpa) -> list[Text]:
    """The same from outside.

    A prompt is padded with zero rows up to text_len and the padding is attended. In float32 one row stands for all of
    it (`layers.padding_bias`), which is a tenth of the work for a short prompt; narrower floats get every row.
    """
    rows = prompt_embeds.shape[1]
    whole = any(layers.replaced(block.cross_attn) for block in model.blocks)
    bias = None
    if text_len - rows < 2 or prompt_embeds.dtype != torch.float32 or whole:
        context = layers.embed_text(model, prompt_embeds, text_len)
    else:
        context = layers.embed_text(model, prompt_embeds, rows + 1)
        bias = layers.padding_bias(torch.tensor([rows], device=context.device), rows, text_len)
    return [block_text(block, context, bias, kernel) for block in model.blocks]


def block_text(block: Tree, context: Tensor, bias: Tensor | None = None, kernel: Kernel = sdpa) -> Text:
    """`layers.cross_kv`, through the block where it is ours."""
    return _of(block, "text_kv", layers.cross_kv)(context, bias, kernel)


def trimmed(prompt_embeds: Tensor) -> Tensor:
    """A prompt [b rows text_dim] without the zero rows that pad it; at least one row stays."""
    used = prompt_embeds.ne(0).any(-1).any(0).nonzero()
    return prompt_embeds[:, : int(used[-1]) + 1 if len(used) else 1]


def time_conditioning(model: Tree, timesteps: Tensor, dtype: torch.dtype) -> Time:
    """`layers.time_conditioning`, through the module where it is ours."""
    return _of(model, "time", layers.time_conditioning)(timesteps, dtype)


@dataclass(frozen=True)
class Call:
    """One call of a network: all that it takes."""

    model: Tree
    latents: Tensor
    """[b f c h w]"""
    time: Time
    """As `time_conditioning` gives it."""
    text: TextKV
    """As `text_kv` gives it."""
    memory: SelfAttention
    want_flow: bool = True
    """False ends the call at the last layer's keys and values, all that a clean pass needs."""
    pieces: Pieces = PLAIN
    """Who does the small operations; fused ones want a tree of our own and a `memory.views.View`."""

    def run(self) -> Tensor | None:
        """The flow [b f c h w], where it is wanted."""
        walked = _of(self.model, "__call__", walk)
        return walked(self.latents, self.time, self.text, self.memory, self.want_flow, self.pieces)


Caller = Callable[[Call], Tensor | None]
"""`Call.run`, or what gives the same otherwise."""


def walk(
    model: Tree,
    latents: Tensor,
    time: Time,
    text: TextKV,
    memory: SelfAttention,
    want_flow: bool = True,
    pieces: Pieces = PLAIN,
) -> Tensor | None:
    """`Call.run` from outside: patches, blocks, head."""
    e, e0 = time
    x = layers.embed_patches(model, latents.transpose(1, 2))  # b (f h w) c
    last = len(model.blocks) - 1
    for i, block in enumerate(model.blocks):
        if i == last and not want_flow:
            memory.write(i, *_of(block, "keys", layers.block_keys)(x, e0, pieces))
            return None

        # `layer` is bound now: a block that is computed again for backward asks after the loop has gone on.
        def self_attend(q: Tensor, raw_k: Tensor, v: Tensor, layer: int = i) -> Tensor:
            return memory.attend(layer, q, raw_k, v)

        x = _of(block, "__call__", layers.run_block)(x, e0, self_attend, text[i], pieces)
    _, ph, pw = model.patch_embedding.kernel_size
    return layers.head(model, x, e, latents.shape[-2] // ph, latents.shape[-1] // pw).transpose(1, 2)
