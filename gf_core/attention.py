"""The one entry to attention: softmax(q k^T / sqrt(d)) v without a mask; what may be seen is the caller's slice.

A host that computes attention in its own way lends its kernel for the length of a call (`using`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor

Kernel = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Attention of q [b s h d] over k, v [b t h d], without a bias; returns [b s h d]."""

_kernel: ContextVar[Kernel | None] = ContextVar("grounded_attention_kernel", default=None)


@contextlib.contextmanager
def using(kernel: Kernel | None) -> Iterator[None]:
    """Let `attend` call `kernel` inside this block, in this thread; None is SDPA."""
    token = _kernel.set(kernel)
    try:
        yield
    finally:
        _kernel.reset(token)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Attention of q [b s h d] over k, v [b t h d]; returns [b s h d]. SDPA is the complete path on every device.

    bias, broadcastable to [b h s t], is added to the logits.
    """
    kernel = _kernel.get()
    if kernel is not None and bias is None:  # lent kernels take no bias; those few calls are small
        return kernel(q, k, v)
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
