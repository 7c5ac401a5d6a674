"""The one entry to attention: softmax(q k^T / sqrt(d)) v without a mask; what may be seen is the caller's slice.

Who computes it is a `Kernel`, handed in by whoever made the call: there is no ambient state, so compilers see through.
`backends` is the table of kernels and chooses one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Where:
    """Which attention is computed: what a sparse or split kernel has to know beside q, k and v."""

    layer: int
    """Transformer block, from 0."""
    regions: tuple[tuple[str, int], ...]
    """Name and latent frames of every region of k and v, in order; the last holds the call's own frames."""
    grid: tuple[int, int]
    """(rows, columns) of tokens in a latent frame."""


class Kernel(Protocol):
    """Attention of q [b s h d] over k, v [b t h d]; returns [b s h d].

    where: which self-attention this is; None for cross-attention. A kernel may ignore it.
    """

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, *, where: Where | None = None) -> Tensor: ...


def sdpa(q: Tensor, k: Tensor, v: Tensor, *, where: Where | None = None) -> Tensor:
    """PyTorch's own choice, complete on every device; on Hopper cards that is cuDNN."""
    return _sdpa(q, k, v, None)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    kernel: Kernel = sdpa,
    where: Where | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Attention of q [b s h d] over k, v [b t h d] by `kernel`; returns [b s h d].

    bias, broadcastable to [b h s t], is added to the logits. No kernel but SDPA takes one; those few calls are small.
    """
    if bias is not None:
        return _sdpa(q, k, v, bias.to(q.dtype))
    return kernel(q, k, v, where=where)


def _sdpa(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    if q.requires_grad and (q.device.type == "cpu" or bias is not None):
        return plain(q, k, v, bias)
    heads_first = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # b h s d
    return F.scaled_dot_product_attention(*heads_first, attn_mask=bias).transpose(1, 2)


def plain(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """The same in three operations: on processors, or under a mask, the backward of SDPA costs far more."""
    logits = torch.einsum("bshd,bthd->bhst", q, k) * q.shape[-1] ** -0.5
    weights = (logits if bias is None else logits + bias).softmax(-1)
    return torch.einsum("bhst,bthd->bshd", weights.to(v.dtype), v)


def grouped_attention(
    q: Tensor,
    context: tuple[Tensor, Tensor, Tensor],
    own: tuple[Tensor, Tensor],
    own_bias: Tensor | None = None,
) -> Tensor:
    """Of training clips: units q [g h r n d] over what their group shares and over themselves, one softmax; like q.

    context: k, v [g h m d] and bias [g 1 1 m], shared by the r units of a group. own: k, v [g h r n d]; own_bias
    [g 1 1 1 n]. Three plain operations: on these sizes faster than SDPA with a mask, on processors and on cards.
    """
    (context_k, context_v, bias), (k, v) = context, own
    tokens, scale = q.shape[3], q.shape[-1] ** -0.5
    # The queries of all units meet the shared keys in one product.
    shared = q.flatten(2, 3) @ context_k.transpose(-1, -2) * scale + bias.to(q.dtype)  # g h (r n) m
    itself = q @ k.transpose(-1, -2) * scale  # g h r n n
    if own_bias is not None:
        itself = itself + own_bias.to(q.dtype)
    weights = torch.cat([shared.unflatten(2, (-1, tokens)), itself], -1).softmax(-1)  # g h r n m+n
    seen, itself = weights.split([context_k.shape[2], tokens], -1)  # g h r n m, g h r n n
    return (seen.flatten(2, 3) @ context_v).unflatten(2, (-1, tokens)) + itself @ v
