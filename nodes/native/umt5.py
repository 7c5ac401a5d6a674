"""Wan's text encoder as Wan-AI and Google published it, under the names that ComfyUI knows."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ...gf_core.checkpoints.companions import tokenizer_folders
from ...gf_core.checkpoints.detect import detect
from ...gf_core.files.tensors import open_file
from ...gf_core.files.unwrap import unwrap
from ...gf_core.text.tokens import find_tokenizer_file
from ...gf_core.text.umt5 import TOKENIZER_KEY, to_hf_name

PUBLISHED = (".safetensors", ".pth", ".pt")
VOCABULARY = ("spiece.model",)
"""ComfyUI reads no other kind of tokenizer here."""


def published_text(path: Path) -> dict[str, Tensor] | None:
    """Tensors of a UMT5 that ComfyUI cannot open by itself, renamed, with the tokenizer that lies beside it.

    None for every other file: ComfyUI opens it, or says itself what is wrong.

    Raises:
        CheckpointError: it is such a UMT5, and its tokenizer is not there; says what to fetch and where to put it.
    """
    if path.suffix.lower() not in PUBLISHED:
        return None
    what = detect(unwrap(open_file(path).tree))
    if what.family != "umt5" or TOKENIZER_KEY in what.tensors:
        return None
    vocabulary = find_tokenizer_file(tokenizer_folders(path), VOCABULARY).read_bytes()
    tensors = {to_hf_name(name): tensor.load() for name, tensor in what.tensors.items()}
    return {**tensors, TOKENIZER_KEY: torch.frombuffer(bytearray(vocabulary), dtype=torch.uint8)}
