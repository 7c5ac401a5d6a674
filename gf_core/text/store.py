"""Prompt rows on disk, so that a prompt is encoded once and the large encoder often need not be loaded at
all.

One safetensors file per prompt, named by the hash of encoder and cleaned prompt. The folder is bounded: what was
not used for longest goes first.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from ..errors import reason
from ..files.atomic import write_atomic
from ..files.cache import cache_dir, prune, read_kept
from .clean import clean_prompt
from .umt5 import UMT5Encoder

log = logging.getLogger("grounded")
MAX_BYTES = 256_000_000
"""Default bound of the folder: about 250 prompts of 60 tokens."""


class EmbeddingStore:
    """Rows [rows, text_dim] by key in one folder."""

    def __init__(self, folder: Path | None = None, max_bytes: int = MAX_BYTES) -> None:
        self.folder = folder or cache_dir("prompts")
        self.max_bytes = max_bytes

    @staticmethod
    def key(fingerprint: str, text: str) -> str:
        """Name of the entry for a cleaned prompt under an encoder."""
        return hashlib.sha256(f"{fingerprint}\n{text}".encode()).hexdigest()

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"

    def get(self, key: str) -> Tensor | None:
        """The rows, or None; a damaged entry is dropped with one log line."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        path = self._path(key)
        try:
            rows = load(read_kept(path))["rows"]
            os.utime(path)
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, KeyError) as error:
            log.warning("stored prompt %.12s dropped: %s", key, reason(error))
            with suppress(OSError):
                path.unlink(missing_ok=True)
            return None
        return rows

    def put(self, key: str, rows: Tensor) -> None:
        """Keeps `rows`; a disk that refuses costs one log line, not the film."""
        from safetensors.torch import save

        path = self._path(key)
        content = save({"rows": rows.detach().cpu().contiguous()})
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomic(path, lambda part: part.write_bytes(content))
            prune(self.folder, self.max_bytes)
        except OSError as error:
            log.warning("prompt not stored: %s", reason(error))


class StoredEncoder:
    """A text encoder in front of a store: only prompts never seen before reach the encoder, together.

    Rows of this process stay in memory too (some MB), so that a disk which refuses them costs no second reading of the
    encoder beside a video model that is loaded by then.
    """

    def __init__(self, encoder: UMT5Encoder, store: EmbeddingStore | None = None) -> None:
        self.encoder, self.store = encoder, store or EmbeddingStore()
        self.fingerprint = encoder.fingerprint
        self._rows: dict[str, Tensor] = {}

    def bytes_to_read(self, prompts: Iterable[str]) -> int:
        """What the encoder's weights take in memory for these prompts; 0 where their rows are all kept."""
        return self.encoder.weight_bytes if self._recall(prompts) else 0

    def encode(self, prompts: list[str]) -> list[Tensor]:
        """Each prompt to rows [rows, text_dim]."""
        new = self._recall(prompts)
        for text, rows in zip(new, self.encoder.encode(new) if new else [], strict=True):
            self._rows[text] = rows
            self.store.put(self.store.key(self.fingerprint, text), rows)
        return [self._rows[clean_prompt(prompt)] for prompt in prompts]

    def _recall(self, prompts: Iterable[str]) -> list[str]:
        """Bring what is stored to memory; the cleaned prompts that are not."""
        new = [text for text in dict.fromkeys(map(clean_prompt, prompts)) if text not in self._rows]
        found = {text: self.store.get(self.store.key(self.fingerprint, text)) for text in new}
        self._rows |= {text: rows for text, rows in found.items() if rows is not None}
        return [text for text in new if text not in self._rows]
