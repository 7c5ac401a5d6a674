"""Attention of training clips: many short sequences that look back on one context together."""

from __future__ import annotations

import torch
from torch import Tensor


def attend_grouped(
    q: Tensor,
    context: tuple[Tensor, Tensor, Tensor],
    own: tuple[Tensor, Tensor],
    own_bias: Tensor | None = None,
) -> Tensor:
    """Units q [g h r n d] over what their group shares and over themselves, one softmax; like q.

    context: k, v [g h m d] and bias [g 1 1 m], shared by the r units of a group. own: k, v [g h r n d]; own_bias
    [g 1 1 1 n]. Three plain operations: on these sizes faster than SDPA with a mask, on processors and on cards.
    """
    (context_k, context_v, bias), (k, v) = context, own
    tokens, scale = q.shape[3], q.shape[-1] ** -0.5
    shared = q.flatten(2, 3) @ context_k.transpose(-1, -2) * scale + bias.to(q.dtype)
    itself = q @ k.transpose(-1, -2) * scale
    if own_bias is not None:
        itself = itself + own_bias.to(q.dtype)
    weights = torch.cat([shared.unflatten(2, (-1, tokens)), itself], -1).softmax(-1)
    seen, itself = weights.split([context_k.shape[2], tokens], -1)
    return (seen.flatten(2, 3) @ context_v).unflatten(2, (-1, tokens)) + itself @ v
