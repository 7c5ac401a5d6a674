"""The one entry to attention: softmax(q k^T / sqrt(d)) v without a mask; what may be seen is the caller's slice."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of q [b s h d] over k, v [b t h d]; returns [b s h d]. SDPA is the complete path on every device."""
    out = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
    return out.transpose(1, 2)
