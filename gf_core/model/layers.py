"""The calls that make a Wan-shaped module tree compute: patches, time, text, block, head.

Every function takes the tree (or a block of it) and calls sub-modules by their Wan names, so it drives our own
`WanModel` and a host's alike. What self-attention may see is not decided here: the caller hands in `self_attend`.
Numerics follow Self Forcing: activation dtype throughout, float32 q/k norm statistics, float64 sinusoid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from ..attention import Kernel, attend, sdpa
from .fp8 import joint
from .pieces import PLAIN, Pieces, modulate

Tree = Any
"""A module tree with Wan's names, our `WanModel` or a host's: the names are the whole interface."""
SelfAttend = Callable[[Tensor, Tensor, Tensor], Tensor]
Time = tuple[Tensor, Tensor]
"""The head's e [b f c] and the blocks' e0 [b f 6 c]; what `time_conditioning` makes of a timestep."""


class Own(nn.Module):
    """A module of our own tree. It is called as a module, so that what torch hangs on modules (sharding, compiled
    calls, hooks) acts; of a host's tree only the parts are called, by the functions below."""

    text_kv: Callable[..., Any]
    keys: Callable[..., tuple[Tensor, Tensor]]
    time: Callable[..., Time]
    computes_in: torch.dtype | None = None
    """In shards, whose weights do not tell; None is their type."""


class Text(NamedTuple):
    """A prompt as one block's cross-attention reads it.

    A tuple: before torch 2.13 shards saw no tensors in other classes, and gathered no weights for their gradients.
    """

    k: Tensor
    """Keys, normed [b s h d]; where a host replaced the module's forward, the context [b s c] itself."""
    v: Tensor | None = None
    """Values [b s h d]; None where the module has to be called as a whole."""
    bias: Tensor | None = None
    """What is added to the logits, broadcastable to [b h s t]."""
    kernel: Kernel = sdpa
    """Who computes the attention."""


def sinusoid(timesteps: Tensor, freq_dim: int) -> Tensor:
    """float64 embedding [..., freq_dim] of timesteps 0..1000: all cosines first, then all sines."""
    if timesteps.device.type == "mps":  # has no float64
        timesteps = timesteps.cpu()
    half = freq_dim // 2
    ladder = torch.arange(half, dtype=torch.float64, device=timesteps.device).div(-half)
    angles = timesteps.double()[..., None] * torch.pow(10000.0, ladder)  # ... freq_dim/2
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def embed_patches(model: Tree, latents: Tensor) -> Tensor:
    """Latents [b c f h w] to tokens [b (f h w) c].

    Fed in float32, because hosts keep this one layer so whatever the rest is; `model.wan` casts to its own type.
    """
    wide = latents if latents.dtype == torch.float64 else latents.float()
    tokens = model.patch_embedding(wide).to(latents.dtype)
    # Laid out anew once: sums keep the layout of what they begin with, and every later pass would read across it.
    return rearrange(tokens, "b c f h w -> b (f h w) c").contiguous()


def time_conditioning(model: Tree, timesteps: Tensor, dtype: torch.dtype) -> Time:
    """One timestep per frame [b f], or [b 1] for all frames, to the head's e [b f c] and the blocks' e0 [b f 6 c]."""
    freq_dim = model.time_embedding[0].in_features
    e = model.time_embedding(sinusoid(timesteps, freq_dim).to(dtype).to(timesteps.device))  # b f c
    return e, model.time_projection(e).unflatten(-1, (6, e.shape[-1]))


def embed_text(model: Tree, prompt_embeds: Tensor, text_len: int) -> Tensor:
    """Prompt rows [b rows text_dim] to context [b text_len c]: zero rows are added before the MLP and attended."""
    rows = prompt_embeds.shape[1]
    padded = nn.functional.pad(prompt_embeds[:, :text_len], (0, 0, 0, max(0, text_len - rows)))
    return model.text_embedding(padded)


def padding_bias(lengths: Tensor, rows: int, text_len: int) -> Tensor:
    """What to add to the logits [n 1 1 rows+1] of prompts with `lengths` [n] rows each, where one zero row stands last.

    That row stands for all zero rows up to text_len: they are alike, so its logit raised by the log of their number
    gives the same softmax. Exact in float32; narrower floats would round the logarithm. Rows past a length are masked.
    """
    bias = torch.zeros(len(lengths), rows + 1, device=lengths.device)  # n rows+1
    past = torch.arange(rows, device=lengths.device) >= lengths[:, None]  # n rows
    bias[:, :-1].masked_fill_(past, float("-inf"))
    bias[:, -1] = (text_len - lengths).double().log()  # rounded once
    return bias[:, None, None]


def replaced(module: Tree) -> bool:
    """Whether someone has put a forward of their own on this very module, as packs do in a host."""
    own = vars(module).get("forward")
    # Taken off again, hosts leave the class's own method behind on the module.
    return own is not None and getattr(own, "__func__", None) is not type(module).forward


def untouched(network: Own) -> bool:
    """Whether nobody has hung anything on a module of our own tree that is not called where its parts are enough."""
    parts = (part for part in network.modules() if not isinstance(part, Own))
    return not any(part._forward_hooks or part._forward_pre_hooks or replaced(part) for part in parts)


def cross_kv(block: Tree, context: Tensor, bias: Tensor | None = None, kernel: Kernel = sdpa) -> Text:
    """What one block's cross-attention keeps of a context [b s c], constant for a prompt."""
    if replaced(block.cross_attn):
        return Text(context)
    attention, heads = block.cross_attn, block.cross_attn.num_heads
    k = attention.norm_k(attention.k(context)).unflatten(-1, (heads, -1))  # b s h d
    return Text(k, attention.v(context).unflatten(-1, (heads, -1)), bias, kernel)


def qkv(block: Tree, x: Tensor, pieces: Pieces = PLAIN) -> tuple[Any, Any, Tensor]:
    """Query, raw key (after norm_k, before RoPE) and value [b s h d] of modulated tokens x [b s c].

    Query and key are as `Pieces.fresh` gives them: where pieces are fused, they are normed when they are turned.
    """
    attention = block.self_attn
    layer = joint(attention)
    if layer is None:
        q, k, v = (pieces.given(part, x) for part in (attention.q, attention.k, attention.v))
    else:
        q, k, v = layer(x).chunk(3, -1)  # b s c each
    return pieces.fresh(attention.norm_q, q, attention.num_heads), *_kv(attention, k, v, pieces)


def _kv(attention: Tree, k: Tensor, v: Tensor, pieces: Pieces) -> tuple[Any, Tensor]:
    """Raw key and value [b s h d] of what the two layers gave [b s c]."""
    return pieces.fresh(attention.norm_k, k, attention.num_heads), v.unflatten(-1, (attention.num_heads, -1))


def _modulation(block: Tree, e0: Tensor) -> tuple[Tensor, ...]:
    """shift, scale, gate of self-attention, then of the feed-forward; each [b f 1 c]."""
    # Cast to e0's device too: a bare parameter stays where a host that swaps weights has left it.
    return (block.modulation.to(e0).unsqueeze(1) + e0).chunk(6, dim=2)


def block_keys(block: Tree, x: Tensor, e0: Tensor, pieces: Pieces = PLAIN) -> tuple[Any, Tensor]:
    """Raw keys and values [b s h d] of a block whose output nobody needs; arguments as in `run_block`."""
    shift, scale, *_ = _modulation(block, e0)
    attention, layer = block.self_attn, joint(block.self_attn)
    x = pieces.modulated(block.norm1, x, shift, scale, lambda: layer or attention.k)
    if layer is None:
        k, v = pieces.given(attention.k, x), pieces.given(attention.v, x)
    else:
        # `join` took q, k and v off the module: the query is computed along with them, and dropped.
        _, k, v = layer(x).chunk(3, -1)
    return _kv(attention, k, v, pieces)


def run_block(
    block: Tree, x: Tensor, e0: Tensor, self_attend: SelfAttend, text: Text, pieces: Pieces = PLAIN
) -> Tensor:
    """One transformer block on tokens x [b (f s) c] with e0 [b f 6 c] per frame, or [b 1 6 c] for all frames.

    self_attend(q, raw_k, v) gets and returns [b s h d]; `text` is this block's entry of `forward.text_kv`.
    """
    shift1, scale1, gate1, shift2, scale2, gate2 = _modulation(block, e0)  # b f 1 c each
    attention, ffn = block.self_attn, block.ffn
    normed = pieces.modulated(block.norm1, x, shift1, scale1, lambda: joint(attention) or attention.q)
    attended = pieces.product(attention.o, self_attend(*qkv(block, normed, pieces)).flatten(2))
    # Each sum goes with the norm that follows it: fused pieces make both in one pass.
    x, y = pieces.gated_normed(x, attended, gate1, block.norm3, lambda: block.cross_attn.q)
    x, y = pieces.added_modulated(
        x, cross_attend(block, y, text, pieces), block.norm2, shift2, scale2, lambda: ffn[0]
    )
    return pieces.gated(x, pieces.feed_forward(ffn, y), gate2)


def cross_attend(block: Tree, x: Tensor, text: Text, pieces: Pieces = PLAIN) -> Tensor:
    """Cross-attention of normed tokens x [b s c] to the prompt's keys and values; no modulation, no gate."""
    attention = block.cross_attn
    if text.v is None:
        return attention(x, text.k)  # replaced by a host: `k` is the context
    q = pieces.normed(attention.norm_q, pieces.given(attention.q, x), attention.num_heads)  # b s h d
    attended = attend(q, text.k, text.v, kernel=text.kernel, bias=text.bias)
    return pieces.product(attention.o, attended.flatten(2))


def head(model: Tree, x: Tensor, e: Tensor, rows: int, columns: int) -> Tensor:
    """Tokens x [b (f rows columns) c] and e [b f c] to flow [b c f h w]; the channel is the patch's last axis."""
    shift, scale = (model.head.modulation.to(e).unsqueeze(1) + e.unsqueeze(2)).chunk(2, dim=2)  # b f 1 c
    patches = model.head.head(modulate(model.head.norm(x), shift, scale))
    _, ph, pw = model.patch_embedding.kernel_size
    return rearrange(patches, "b (f h w) (ph pw c) -> b c f (h ph) (w pw)", h=rows, w=columns, ph=ph, pw=pw)
