"""Finds and opens what a film needs beside the transformer: a text encoder, its tokenizer, and a VAE.

Looked for where people keep them: beside the model, in a diffusers folder's `text_encoder` and `vae`, and
in the neighbouring folders of a ComfyUI installation. What is missing is named with its source, size and
place.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from ..errors import CheckpointError, GroundedError
from ..files.fingerprint import remembered
from ..files.gguf_file import lists
from ..files.lazy import LazyTensor, TensorFile
from ..files.listing import inside
from ..files.names import MODEL_SUFFIXES
from ..files.scales import unscaled
from ..files.strange import refuse_zeros
from ..files.tensors import open_file
from ..files.unwrap import unwrap
from ..text.base import TextEncoder
from ..text.store import StoredEncoder
from ..text.tokens import (
    TOKENIZER_LISTS,
    SentencePieceTokenizer,
    Tokenizer,
    find_tokenizer,
    sentencepiece_model,
)
from ..text.umt5 import TOKENIZER_KEY, UMT5Encoder
from .detect import detect

log = logging.getLogger("grounded")

_COMPANIONS = {
    "text": (
        "text encoder (UMT5-XXL)",
        ("text_encoder", "text_encoders", "clip"),
        ("models_t5_umt5-xxl-enc-bf16*", "umt5*xxl*", "umt5*"),
        "models_t5_umt5-xxl-enc-bf16.pth (11.4 GB, from Wan-AI/Wan2.1-T2V-1.3B) and spiece.model "
        "(from google/umt5-xxl)",
    ),
    "vae": (
        "VAE",
        ("vae", "vae_approx"),
        ("Wan2.1_VAE*", "wan_2.1_vae*", "wan2.1_vae*", "wan*2_1*vae*", "taew2_1*"),
        "Wan2.1_VAE.pth (0.5 GB, from Wan-AI/Wan2.1-T2V-1.3B) or taew2_1.safetensors (23 MB, from "
        "madebyollin/taehv, faster and softer)",
    ),
}
"""What each is called, its usual folders, patterns of its file's name (the preferred first), and what to fetch."""


def find(kind: str, model: Path) -> Path:
    """A model's "text" or "vae", near its file or folder. Raises CheckpointError saying what to fetch, and where to."""
    what, names, patterns, source = _COMPANIONS[kind]
    home = model if model.is_dir() else model.parent
    folders = [home, *(parent / n for parent in (home, home.parent, home.parent.parent) for n in names)]
    found = _first((folder for folder in dict.fromkeys(folders) if folder.is_dir()), patterns)
    if found is None:
        raise CheckpointError(
            f"no {what} was found near {model.name}", f"put {source} into {home}, or name the file."
        )
    return found


def _first(folders: Iterable[Path], patterns: Iterable[str]) -> Path | None:
    for folder in folders:
        try:
            there = inside(folder)
        except GroundedError as error:
            log.warning("%s", error.message)
            continue
        for pattern in patterns:
            files = [p for p in there if p.match(pattern) and p.suffix.lower() in MODEL_SUFFIXES]
            if files:  # of equals the one that loses less
                return min(files, key=lambda p: (p.suffix.lower() == ".gguf", p))
        if folder.name in ("text_encoder", "vae") and (folder / "config.json").exists():
            return folder
    return None


def open_text(
    path: Path, *, dtype: torch.dtype | None = None, device: str | torch.device = "cpu"
) -> TextEncoder:
    """The UMT5 encoder in `path` behind the store of prompts; weights are read when a new prompt comes.

    Raises CheckpointError as `describe_text`, and when it lacks its tokenizer.
    """
    file, tensors = describe_text(path)
    fingerprint = remembered(file.parts, "text", tensors)
    tokenizer = open_tokenizer(file, tensors)
    return StoredEncoder(
        UMT5Encoder(unscaled(tensors), tokenizer, fingerprint, dtype=dtype or torch.bfloat16, device=device)
    )


def describe_text(path: Path) -> tuple[TensorFile, Mapping[str, LazyTensor]]:
    """The UMT5 encoder's file and the tensors in it, none of them read.

    Raises CheckpointError when it is another model, or quantised in a way that is not read.
    """
    file = open_file(path)
    what = detect(unwrap(file.tree), file.metadata)
    if what.family != "umt5":
        raise CheckpointError(
            f"{path.name} is not the UMT5 text encoder of Wan",
            "use models_t5_umt5-xxl-enc-bf16.pth (Wan-AI/Wan2.1-T2V-1.3B) or umt5_xxl_fp16.safetensors "
            "(Comfy-Org/Wan_2.1_ComfyUI_repackaged).",
        )
    if what.unread is not None:
        raise CheckpointError(f"{path.name} is UMT5 {what.unread[0]}", what.unread[1])
    refuse_zeros(path.name, what.tensors)
    return file, what.tensors


def open_tokenizer(file: TensorFile, tensors: Mapping[str, LazyTensor]) -> Tokenizer:
    """The tokenizer in or beside the weights that `describe_text` found. Raises CheckpointError where there is none."""
    inside = tokenizer_inside(file, tensors)
    return SentencePieceTokenizer(inside) if inside else find_tokenizer(tokenizer_folders(file.path))


def tokenizer_inside(file: TensorFile, tensors: Mapping[str, LazyTensor]) -> bytes | None:
    """The serialised SentencePiece model in the file itself; None where it has none."""
    inside = tensors.get(TOKENIZER_KEY)
    if inside is not None:
        return bytes(inside.load().to(torch.uint8).contiguous().numpy())
    return sentencepiece_model(lists(file.parts[0], TOKENIZER_LISTS)) if file.kind == "gguf" else None


def tokenizer_folders(weights: Path) -> list[Path]:
    """Where the tokenizer of a text encoder's weights may lie, nearest first."""
    home = weights if weights.is_dir() else weights.parent
    names = ("tokenizer", "google/umt5-xxl", "umt5-xxl")
    return [home, *(home / n for n in names), *(home.parent / n for n in names)]
