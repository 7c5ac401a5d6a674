"""The Wan2.1 text-to-video transformer as a tree of modules under its original names.

Parameters live here (825 tensors for the 1.3B), and methods that hand them to `model.layers` and `model.forward`, whose
same calls drive any other tree with these names, such as the one a host has loaded. Names and shapes: Wan-Video/Wan2.1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..attention import Kernel, sdpa
from ..config import ModelSpec
from . import forward, layers


class RMSNorm(nn.Module):
    """Root-mean-square norm over the full width: statistics in float32, the weight after the cast back."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)).type_as(x) * self.weight


class Attention(nn.Module):
    """Projections of one self- or cross-attention; q and k are normed over all heads together."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(spec.dim, spec.dim) for _ in range(4))
        self.norm_q, self.norm_k = RMSNorm(spec.dim, spec.eps), RMSNorm(spec.dim, spec.eps)
        self.num_heads = spec.num_heads


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
        self.modulation = nn.Parameter(torch.randn(1, 6, spec.dim) / spec.dim**0.5)

    def forward(self, x: Tensor, e0: Tensor, self_attend: layers.SelfAttend, text: layers.Text) -> Tensor:
        """`layers.run_block`."""
        return layers.run_block(self, x, e0, self_attend, text)

    def keys(self, x: Tensor, e0: Tensor) -> tuple[Tensor, Tensor]:
        """`layers.block_keys`."""
        return layers.block_keys(self, x, e0)

    def text_kv(self, context: Tensor, bias: Tensor | None = None, kernel: Kernel = sdpa) -> layers.Text:
        """`layers.cross_kv`."""
        return layers.cross_kv(self, context, bias, kernel)


class Head(nn.Module):
    """Last modulated norm and projection to patches of flow."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        t, h, w = spec.patch_size
        self.norm = nn.LayerNorm(spec.dim, spec.eps, elementwise_affine=False)
        self.head = nn.Linear(spec.dim, t * h * w * spec.out_dim)
        self.modulation = nn.Parameter(torch.randn(1, 2, spec.dim) / spec.dim**0.5)


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

    def forward(
        self,
        latents: Tensor,
        time: layers.Time,
        text: forward.TextKV,
        memory: forward.SelfAttention,
        want_flow: bool = True,
    ) -> Tensor | None:
        """`forward.walk`."""
        return forward.walk(self, latents, time, text, memory, want_flow)

    def text_kv(self, prompt_embeds: Tensor, text_len: int, kernel: Kernel = sdpa) -> list[layers.Text]:
        """`forward.embed_prompt`."""
        return forward.embed_prompt(self, prompt_embeds, text_len, kernel)

    def time(self, timesteps: Tensor, dtype: torch.dtype) -> layers.Time:
        """`layers.time_conditioning`."""
        return layers.time_conditioning(self, timesteps, dtype)


def build_meta(spec: ModelSpec) -> WanModel:
    """The tree on the meta device: shapes without memory, to be filled by a loader."""
    with torch.device("meta"):
        return WanModel(spec)
