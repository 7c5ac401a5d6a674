"""The one entry to attention: softmax(q k^T / sqrt(d)) v without a mask; what may be seen is the caller's slice."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Attention of q [b s h d] over k, v [b t h d]; returns [b s h d]. SDPA is the complete path on every device.

    bias, broadcastable to [b h s t], is added to the logits.
    """
    if bias is not None:
        bias = bias.to(q.dtype)
    if torch.is_grad_enabled() and q.device.type == "cpu":
        return _plain(q, k, v, bias)
    out = F.scaled_dot_product_attention(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=bias
    )
    return out.transpose(1, 2)


def _plain(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """The same in three operations: on processors the backward of SDPA costs three times as much."""
    logits = torch.einsum("bshd,bthd->bhst", q, k) * q.shape[-1] ** -0.5
    weights = (logits if bias is None else logits + bias).softmax(-1)
    return torch.einsum("bhst,bthd->bshd", weights.to(v.dtype), v)
