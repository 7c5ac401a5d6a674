"""Words to ids for UMT5: a SentencePiece model (in a file or beside it), GGUF's lists, or a tokenizer.json."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from ..errors import HEADLESS, CheckpointError, installed


class Tokenizer(Protocol):
    """Splits a prompt into ids of a vocabulary."""

    eos: int
    """Id that ends every prompt."""

    def ids(self, text: str) -> list[int]:
        """Ids of `text` without the end mark."""
        ...


class SentencePieceTokenizer:
    """The SentencePiece model of UMT5, from its serialised bytes (`spiece.model`)."""

    def __init__(self, model: bytes) -> None:
        with installed("the tokenizer of UMT5", HEADLESS):
            from sentencepiece import SentencePieceProcessor

        try:
            self._pieces = SentencePieceProcessor(model_proto=model)
        except (RuntimeError, TypeError) as error:
            raise CheckpointError(
                "the tokenizer (SentencePiece model) is damaged", "download spiece.model again."
            ) from error
        self.eos = self._pieces.eos_id()

    def ids(self, text: str) -> list[int]:
        return list(self._pieces.encode(text))


TOKENIZER_LISTS = tuple(
    f"tokenizer.ggml.{name}" for name in ("tokens", "scores", "token_type", "precompiled_charsmap")
)
"""Keys of the lists in which a GGUF file holds what was in a SentencePiece model."""


def sentencepiece_model(lists: Mapping[str, tuple]) -> bytes | None:
    """The serialised SentencePiece model that was taken apart into a GGUF file; None where the file holds none.

    Raises CheckpointError when the lists do not go together. Fields as in google/sentencepiece
    src/sentencepiece_model.proto; a unigram model, as T5's all are.
    """
    pieces, scores, kinds, charsmap = (lists.get(key, ()) for key in TOKENIZER_LISTS)
    if not pieces:
        return None
    lengths = {len(pieces), len(scores), len(kinds)}
    types = {str: pieces, float: scores, int: (*kinds, *charsmap)}
    odd = any(type(value) is not kind for kind, values in types.items() for value in values)
    if odd or len(lengths) > 1 or not all(0 < kind < 128 for kind in kinds):
        raise CheckpointError("the tokenizer in the file's header is damaged", "download the file again.")
    out = bytearray()
    for piece, score, kind in zip(pieces, scores, kinds):
        out += _message(
            1, _message(1, piece.encode()) + b"\x15" + struct.pack("<f", score) + b"\x18" + _number(kind)
        )
    out += _message(2, b"\x18\x01")  # model_type = unigram
    return bytes(out + _message(3, _message(2, bytes(value & 255 for value in charsmap))))


def _message(field: int, content: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _number(len(content)) + content


def _number(value: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


class JsonTokenizer:
    """A tokenizer.json as Hugging Face writes it."""

    def __init__(self, path: Path) -> None:
        with installed("the tokenizer of UMT5", HEADLESS):
            from tokenizers import Tokenizer as Fast

        try:
            self._fast = Fast.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception for every damage
            raise CheckpointError(f"{path.name} is damaged: {error}", "download it again.") from error
        eos = self._fast.token_to_id("</s>")
        if eos is None:
            raise CheckpointError(
                f"{path.name} has no end mark </s>", "use the tokenizer of google/umt5-xxl."
            )
        self.eos = int(eos)

    def ids(self, text: str) -> list[int]:
        return self._fast.encode(text, add_special_tokens=False).ids


TOKENIZER_FILES = ("spiece.model", "tokenizer.json")
"""Names that `find_tokenizer` looks for, the preferred first."""


def find_tokenizer(folders: list[Path]) -> Tokenizer:
    """The first tokenizer in `folders`. Raises CheckpointError saying what to fetch and where to put it."""
    path = find_tokenizer_file(folders)
    return JsonTokenizer(path) if path.suffix == ".json" else SentencePieceTokenizer(path.read_bytes())


def find_tokenizer_file(folders: list[Path], names: Sequence[str] = TOKENIZER_FILES) -> Path:
    """The first file in `folders` that is called one of `names`. Raises CheckpointError like `find_tokenizer`."""
    for folder in folders:
        for name in names:
            if (folder / name).is_file():
                return folder / name
    raise CheckpointError(
        "the text encoder's tokenizer is missing",
        f"put spiece.model (4.5 MB, from google/umt5-xxl) into {folders[0]}.",
    )
