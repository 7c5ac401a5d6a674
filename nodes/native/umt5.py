"""Wan's text encoder as Wan-AI and Google published it, and GGUF files of it, under the names that ComfyUI knows."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ...gf_core.checkpoints.companions import describe_text, tokenizer_folders, tokenizer_inside
from ...gf_core.checkpoints.detect import detect
from ...gf_core.files.tensors import open_file
from ...gf_core.files.unwrap import unwrap
from ...gf_core.text.tokens import find_tokenizer_file
from ...gf_core.text.umt5 import TOKENIZER_KEY, weights_of
from .shape import UNPACKED

PUBLISHED = (".safetensors", ".pth", ".pt")
VOCABULARY = ("spiece.model",)
"""ComfyUI reads no other kind of tokenizer here."""


def published_text(path: Path) -> dict[str, Tensor] | None:
    """Tensors of a UMT5 that ComfyUI cannot open by itself, renamed, with the tokenizer that lies in it or beside it.

    None for every other file: ComfyUI opens it, or says itself what is wrong.

    Raises CheckpointError: it is a GGUF of another model; or it is such a UMT5, and its tokenizer is not there; says
    what to fetch and where to put it.
    """
    gguf = path.suffix.lower() == ".gguf"
    if gguf:
        file, tensors = describe_text(path)
        inside = tokenizer_inside(file, tensors)
    elif path.suffix.lower() in PUBLISHED:
        what = detect(unwrap(open_file(path).tree))
        tensors, inside = what.tensors, None
        if what.family != "umt5" or TOKENIZER_KEY in tensors:
            return None
    else:
        return None
    vocabulary = inside or find_tokenizer_file(tokenizer_folders(path), VOCABULARY).read_bytes()
    # A GGUF's norms are float32, and the host would hold all weights in the type of its norms.
    numbers = {
        name: tensor.copied(UNPACKED) if gguf else tensor.load()
        for name, tensor in weights_of(tensors).items()
    }
    return {**numbers, TOKENIZER_KEY: torch.frombuffer(bytearray(vocabulary), dtype=torch.uint8)}
