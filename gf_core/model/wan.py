"""The Wan2.1 text-to-video transformer as a tree of modules under its original names.

Parameters live here (825 tensors for the 1.3B). What computes with them are the functions of `model.layers` and
`model.forward`, taken as methods: the same calls drive any other tree with these names, such as the one a host has
loaded. Names and shapes: Wan-Video/Wan2.1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..config import ModelSpec
from . import layers
from .forward import embed_prompt, walk
from .pieces import rms_norm


class RMSNorm(nn.Module):
    """`rms_norm` over the full width."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)


class Attention(nn.Module):
    """Projections of one self- or cross-attention; q and k are normed over all heads together."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(spec.dim, spec.dim) for _ in range(4))
        self.norm_q, self.norm_k = RMSNorm(spec.dim, spec.eps), RMSNorm(spec.dim, spec.eps)
        self.num_heads = spec.num_heads


def _drawn(*shape: int) -> nn.Parameter:
    """Normal draws of deviation 1 / sqrt(width); only a shape on the meta device, where a division takes 1.6 s.

    (It is done by a decomposition there, whose import brings all of torch._dynamo with it.)
    """
    values = torch.empty(shape)
    return nn.Parameter(values if values.is_meta else values.normal_() / shape[-1] ** 0.5)


class Block(layers.Own):
    """One transformer block; norm3, before cross-attention, is the only affine LayerNorm."""

    BESIDES_FORWARD = ("keys", "text_kv")

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(spec.dim, spec.eps, elementwise_affine=False)
        self.self_attn = Attention(spec)
        self.norm3 = nn.LayerNorm(spec.dim, spec.eps)
        self.cross_attn = Attention(spec)
        self.norm2 = nn.LayerNorm(spec.dim, spec.eps, elementwise_affine=False)
        self.ffn = nn.Sequential(
            nn.Linear(spec.dim, spec.ffn_dim), nn.GELU(approximate="tanh"), nn.Linear(spec.ffn_dim, spec.dim)
        )
        self.modulation = _drawn(1, 6, spec.dim)

    forward, keys, text_kv = layers.run_block, layers.block_keys, layers.cross_kv


class Head(nn.Module):
    """Last modulated norm and projection to patches of flow."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        t, h, w = spec.patch_size
        self.norm = nn.LayerNorm(spec.dim, spec.eps, elementwise_affine=False)
        self.head = nn.Linear(spec.dim, t * h * w * spec.out_dim)
        self.modulation = _drawn(1, 2, spec.dim)


class PatchEmbedding(nn.Conv3d):
    """Latents [b c f h w] to the residual stream; takes any float, computes in its own."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.to(self.weight.dtype))


class WanModel(layers.Own):
    """A Wan2.1 T2V transformer of any size."""

    BESIDES_FORWARD = ("text_kv", "time")
    """Other methods that compute with parameters: wrappers that gather these around `forward` must know them."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        dim = spec.dim
        self.patch_embedding = PatchEmbedding(spec.in_dim, dim, spec.patch_size, spec.patch_size)
        self.text_embedding = nn.Sequential(
            nn.Linear(spec.text_dim, dim), nn.GELU(approximate="tanh"), nn.Linear(dim, dim)
        )
        self.time_embedding = nn.Sequential(nn.Linear(spec.freq_dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
        self.blocks = nn.ModuleList(Block(spec) for _ in range(spec.num_layers))
        self.head = Head(spec)

    forward, text_kv, time = walk, embed_prompt, layers.time_conditioning


def build_meta(spec: ModelSpec) -> WanModel:
    """The tree on the meta device: shapes without memory, to be filled by a loader."""
    with torch.device("meta"):
        return WanModel(spec)
