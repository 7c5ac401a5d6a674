"""The built-in model's own text encoder: a closed vocabulary, two small transformer layers.

It speaks the same interface as UMT5: rows of 4096 numbers, of which only the first `dim` are used. A prompt with a
word that it was never shown is refused with the words that it knows, because guessing would draw something else.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from ..errors import CheckpointError, is_out_of_memory
from ..files.fingerprint import remembered
from ..files.strange import refuse_zeros
from ..files.tensors import open_file
from ..foreign import read_json
from .vocabulary import Vocabulary

SHORT = 15
"""Rows that a prompt is filled up to while it is encoded."""


class _Layer(nn.Module):
    """Pre-norm self-attention and feed-forward over the words of one prompt."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.RMSNorm(dim, eps=1e-6), nn.RMSNorm(dim, eps=1e-6)
        self.qkv, self.out = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim, bias=False)
        self.ffn = nn.Sequential(
            nn.Linear(dim, 4 * dim), nn.GELU(approximate="tanh"), nn.Linear(4 * dim, dim)
        )

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + bias
        x = x + self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        return x + self.ffn(self.norm2(x))


class SmallTextEncoder(nn.Module, Vocabulary):
    """Words to prompt rows; trained together with the built-in video model."""

    def __init__(
        self,
        words: Sequence[str],
        dim: int = 128,
        layers: int = 2,
        heads: int = 4,
        max_words: int = 40,
        text_dim: int = 4096,
    ) -> None:
        super().__init__()
        self.settings = dict(dim=dim, layers=layers, heads=heads, max_words=max_words, text_dim=text_dim)
        Vocabulary.__init__(self, words, max_words)
        self.text_dim = text_dim
        self.embedding = nn.Embedding(len(self.words) + 1, dim)
        self.position = nn.Parameter(torch.randn(max_words + 1, dim) * 0.5)
        self.layers = nn.ModuleList(_Layer(dim, heads) for _ in range(layers))
        self.norm = nn.RMSNorm(dim, eps=1e-6)
        self.fingerprint = "untrained"

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Padded ids [b l] and lengths [b] to rows [b l dim]; rows past the length are zero."""
        inside = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        bias = torch.zeros(inside.shape, device=ids.device).masked_fill(~inside, float("-inf"))[:, None, None]
        x = self.embedding(ids) + self.position[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x, bias)
        return self.norm(x) * inside[..., None]

    def batch(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Prompts to padded ids [b l] and lengths [b]."""
        tokens = [self.tokenize(prompt) for prompt in prompts]
        lengths = torch.tensor([len(t) for t in tokens])
        ids = torch.zeros(len(tokens), int(lengths.max()), dtype=torch.long)
        for row, t in zip(ids, tokens):
            row[: len(t)] = torch.tensor(t)
        return ids, lengths

    @torch.no_grad()
    def encode(self, prompts: list[str]) -> list[Tensor]:
        """Each prompt to float32 rows [words+1, text_dim]; columns past the encoder's width are zero.

        The rows of a prompt have the same bits whatever is encoded with it.
        """
        return [self._rows(prompt) for prompt in prompts]

    def _rows(self, prompt: str) -> Tensor:
        # Sums come out otherwise where a call has another shape, so a prompt alone decides the shape of its call. It
        # is there twice, and as wide as usual prompts are together: so a film of several has always had its rows.
        ids, lengths = self.batch([prompt] * 2)
        ids = nn.functional.pad(ids, (0, max(0, min(SHORT, len(self.position)) - ids.shape[1])))
        rows = self(ids.to(self.position.device), lengths.to(self.position.device))[0, : lengths[0]].float()
        return nn.functional.pad(rows, (0, self.text_dim - rows.shape[-1]))


def save_small_encoder(encoder: SmallTextEncoder, path: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write the encoder with its vocabulary into one safetensors file."""
    tensors = {name: value.detach().to(dtype).contiguous() for name, value in encoder.state_dict().items()}
    path.write_bytes(
        save(tensors, {"words": json.dumps(encoder.words), "settings": json.dumps(encoder.settings)})
    )


def load_small_encoder(path: Path) -> SmallTextEncoder:
    """Read what `save_small_encoder` wrote; raises CheckpointError when it is something else."""
    fix = "Use the file beside the built-in model."
    file = open_file(path)
    if "words" not in file.metadata:
        raise CheckpointError(f"{path} is not a small text encoder", fix)
    refuse_zeros(path.name, file.tensors)
    try:
        words, settings = (read_json(file.metadata[name]) for name in ("words", "settings"))
        encoder = SmallTextEncoder(words, **settings)
        encoder.load_state_dict({name: tensor.load().float() for name, tensor in file.tensors.items()})
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        raise CheckpointError(f"the text encoder {path} is damaged: {error}", fix) from error
    encoder.fingerprint = remembered([path], "whole", file.tensors)
    return encoder.eval()
