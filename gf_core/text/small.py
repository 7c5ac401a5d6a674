"""The built-in model's own text encoder: a closed vocabulary, two small transformer layers.

It speaks the same interface as UMT5: rows of 4096 numbers, of which only the first `dim` are used. A prompt with a
word that it was never shown is refused with the words that it knows, because guessing would draw something else.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import CheckpointError, PromptError
from ..files.tensors import open_file
from ..foreign import read_json

END, UNKNOWN_LIMIT = 0, 6
CLOSE = 0.66
"""Likeness from which a known word may have been meant: `fux` and `fox` have 0.67."""
_WORD = re.compile(r"[a-z0-9']+")
_LENGTH = re.compile("[0-9]+(s|sec|seconds|f|frames|ms|min)")


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


class SmallTextEncoder(nn.Module):
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
        self.words = tuple(words)
        self.settings = dict(dim=dim, layers=layers, heads=heads, max_words=max_words, text_dim=text_dim)
        self.index = {word: i + 1 for i, word in enumerate(self.words)}
        self.text_dim, self.max_words = text_dim, max_words
        self.embedding = nn.Embedding(len(self.words) + 1, dim)
        self.position = nn.Parameter(torch.randn(max_words + 1, dim) * 0.5)
        self.layers = nn.ModuleList(_Layer(dim, heads) for _ in range(layers))
        self.norm = nn.RMSNorm(dim, eps=1e-6)
        self.fingerprint = "untrained"

    def tokenize(self, prompt: str) -> list[int]:
        """Word ids with the end token; raises PromptError for words outside the vocabulary or too many of them."""
        self._refuse_unknown({word: [] for word in self._unknown(prompt)}, f' (in "{prompt.strip()[:200]}")')
        found = _WORD.findall(prompt.lower())
        if len(found) > self.max_words:
            raise PromptError(
                f"prompt of {len(found)} words, the built-in model reads {self.max_words}",
                "Shorten the prompt.",
            )
        return [self.index[word] for word in found] + [END]

    def check_words(self, text: str, spoken: Sequence[tuple[int, str]]) -> None:
        """Refuse all that it cannot read in a storyboard at once.

        text: the storyboard. spoken: line (from 1) and whole prompt of every segment.

        Raises PromptError, which names lines and points at the first word.
        """
        found: dict[str, list[tuple[int, int]]] = {}
        for line, prompt in spoken:
            for word in self._unknown(prompt):
                found.setdefault(word, []).append(_find(word, text, line))
        self._refuse_unknown(found, text=text)
        for line, prompt in spoken:
            if (count := len(_WORD.findall(prompt.lower()))) > self.max_words:
                message = f"prompt of {count} words, the built-in model reads {self.max_words}"
                raise PromptError(
                    message, "Shorten the prompt.", line=line, column=1, text=_lines(text)[line - 1]
                )

    def _unknown(self, prompt: str) -> list[str]:
        return [word for word in dict.fromkeys(_WORD.findall(prompt.lower())) if word not in self.index]

    def _refuse_unknown(
        self, found: dict[str, list[tuple[int, int]]], where: str = "", text: str = ""
    ) -> None:
        if not found:
            return
        told, near = [], []
        for word, places in list(found.items())[:UNKNOWN_LIMIT]:
            lines = list(dict.fromkeys(str(line) for line, _ in places))
            told.append(f"{word} (line{'s' * (len(lines) > 1)} {', '.join(lines[:4])})" if lines else word)
            near += [
                f"{match} for {word}" for match in difflib.get_close_matches(word[:40], self.words, 1, CLOSE)
            ]
        more = f" and {len(found) - UNKNOWN_LIMIT} more" if len(found) > UNKNOWN_LIMIT else ""
        line, column = min((place for places in found.values() for place in places), default=(0, 0))
        tips = ["a length stands behind a bar: | 5s."] if any(map(_LENGTH.fullmatch, found)) else []
        tips += [f"did you mean {', '.join(near)}?"] if near else []
        tips.append(f"{'All' if tips else 'all'} its {len(self.words)} words are in docs/storyboard.md")
        raise PromptError(
            f"the built-in model does not know: {', '.join(told)}{more}{where}",
            f"{' '.join(tips)}, a full Wan model reads any text",
            line=line,
            column=column,
            text=_lines(text)[line - 1] if line else "",
        )

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
        """Each prompt to float32 rows [words+1, text_dim]; columns past the encoder's width are zero."""
        ids, lengths = self.batch(prompts)
        rows = self(ids.to(self.position.device), lengths.to(self.position.device)).float()
        rows = nn.functional.pad(rows, (0, self.text_dim - rows.shape[-1]))
        return [row[:length] for row, length in zip(rows, lengths.tolist())]


def _lines(text: str) -> list[str]:
    return re.split(r"\r\n|\n|\r", text)


def _find(word: str, text: str, line: int) -> tuple[int, int]:
    """Line and column of `word`: in the segment's own line, else in the cast or style that brought it there."""
    lines = _lines(text)
    pattern = re.compile(rf"(?<![a-z0-9']){re.escape(word)}(?![a-z0-9'])", re.IGNORECASE)
    for number in (line, *(place for place, other in enumerate(lines, 1) if other.lstrip().startswith("@"))):
        if found := pattern.search(lines[number - 1]):
            return number, found.start() + 1
    return line, 1


def save_small_encoder(encoder: SmallTextEncoder, path: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write the encoder with its vocabulary into one safetensors file."""
    tensors = {name: value.detach().to(dtype).contiguous() for name, value in encoder.state_dict().items()}
    save_file(tensors, path, {"words": json.dumps(encoder.words), "settings": json.dumps(encoder.settings)})


def load_small_encoder(path: Path, fingerprint: str = "") -> SmallTextEncoder:
    """Read what `save_small_encoder` wrote; raises CheckpointError when it is something else."""
    fix = "Use the file beside the built-in model."
    file = open_file(path)
    if "words" not in file.metadata:
        raise CheckpointError(f"{path} is not a small text encoder", fix)
    try:
        words, settings = (read_json(file.metadata[name]) for name in ("words", "settings"))
        encoder = SmallTextEncoder(words, **settings)
        encoder.load_state_dict({name: tensor.load().float() for name, tensor in file.tensors.items()})
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"the text encoder {path} is damaged: {error}", fix) from error
    encoder.fingerprint = fingerprint or str(path)
    return encoder.eval()
