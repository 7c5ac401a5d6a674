"""A tiny UMT5 with random weights and a tiny SentencePiece vocabulary."""

import re

import pytest
import torch

from gf_core.files.lazy import LazyTensor

SIZES = {"vocab": 64, "width": 16, "heads": 2, "head": 8, "hidden": 24, "layers": 2, "buckets": 32}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GROUNDED_CACHE", str(tmp_path / "cache"))


def lazy(weights: dict[str, torch.Tensor], reads: list[str] | None = None) -> dict[str, LazyTensor]:
    """`weights` as a file gives them; `reads` gets the name of each that is read."""

    def reading(name: str, value: torch.Tensor) -> LazyTensor:
        def load() -> torch.Tensor:
            if reads is not None:
                reads.append(name)
            return value

        return LazyTensor(value.dtype, tuple(value.shape), load)

    return {name: reading(name, value) for name, value in weights.items()}


@pytest.fixture(scope="session")
def original() -> dict[str, torch.Tensor]:
    """Weights under Wan's original names."""
    torch.manual_seed(0)
    s = SIZES
    inner = s["heads"] * s["head"]

    def linear(*shape):
        return torch.randn(shape) * 0.2

    weights = {
        "token_embedding.weight": torch.randn(s["vocab"], s["width"]),
        "norm.weight": 1 + linear(s["width"]),
    }
    for n in range(s["layers"]):
        block = {
            "norm1.weight": 1 + linear(s["width"]),
            "norm2.weight": 1 + linear(s["width"]),
            **{f"attn.{name}.weight": linear(inner, s["width"]) for name in "qkv"},
            "attn.o.weight": linear(s["width"], inner),
            "ffn.gate.0.weight": linear(s["hidden"], s["width"]),
            "ffn.fc1.weight": linear(s["hidden"], s["width"]),
            "ffn.fc2.weight": linear(s["width"], s["hidden"]),
            "pos_embedding.embedding.weight": linear(s["buckets"], s["heads"]),
        }
        weights |= {f"blocks.{n}.{name}": value for name, value in block.items()}
    return weights


@pytest.fixture(scope="session")
def hugging_face(original) -> dict[str, torch.Tensor]:
    """The same weights under Hugging Face names, written out by hand rather than through the code under test."""
    table = {
        "norm1": "layer.0.layer_norm", "norm2": "layer.1.layer_norm",
        "attn.q": "layer.0.SelfAttention.q", "attn.k": "layer.0.SelfAttention.k",
        "attn.v": "layer.0.SelfAttention.v", "attn.o": "layer.0.SelfAttention.o",
        "ffn.gate.0": "layer.1.DenseReluDense.wi_0", "ffn.fc1": "layer.1.DenseReluDense.wi_1",
        "ffn.fc2": "layer.1.DenseReluDense.wo",
        "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
    }  # fmt: skip
    out = {
        "shared.weight": original["token_embedding.weight"],
        "encoder.final_layer_norm.weight": original["norm.weight"],
    }
    for name, value in original.items():
        block = re.fullmatch(r"blocks\.(\d+)\.(.*)\.weight", name)
        if block:
            out[f"encoder.block.{block[1]}.{table[block[2]]}.weight"] = value
    return out
