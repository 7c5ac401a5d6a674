"""What a text encoder is to the engine."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class TextEncoder(Protocol):
    """Turns prompts into rows for cross-attention.

    One with a closed vocabulary also has `check_words(text, spoken)`, see `small.SmallTextEncoder`.
    """

    fingerprint: str
    """Changes whenever the same prompt would give other rows."""

    def encode(self, prompts: list[str]) -> list[Tensor]:
        """Each prompt to its rows [rows, text_dim], without padding; the model pads with zeros to its text length."""
        ...
