"""Lines of storyboard text: fields between `|`, where each character stands, and errors that point there."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from ..errors import StoryboardError
from .storyboard import BLANKS

LONGEST_MESSAGE = 400
"""Characters of an error's message; a longer one loses its middle."""


_BAR = re.compile(r"\\.|\|")
_ESCAPED = re.compile(r"\\([\\|])")


@dataclass(frozen=True)
class Line:
    """One physical line."""

    number: int
    """1-based."""
    source: str
    """As written, without its line break."""

    def whole(self) -> Field:
        """The trimmed line as one field, nothing unescaped."""
        return Field.trimmed(self, self.source, 0, escapes=False)

    def fields(self) -> list[Field]:
        r"""The parts between `|`; `\|` is a bar and `\\` a backslash inside a part."""
        bars = [match.start() for match in _BAR.finditer(self.source) if match[0] == "|"]
        edges = zip([0, *(bar + 1 for bar in bars)], [*bars, len(self.source)])
        return [Field.trimmed(self, self.source[start:end], start) for start, end in edges]


@dataclass(frozen=True)
class Field:
    """A trimmed part of a line."""

    line: Line
    raw: str
    """As written."""
    start: int
    """Place of its first character in the line, from 0."""
    escapes: bool = True
    r"""Whether `\|` and `\\` stand for a bar and a backslash."""

    @classmethod
    def trimmed(cls, line: Line, raw: str, start: int, escapes: bool = True) -> Field:
        """The field without the blanks at its edges."""
        text = raw.lstrip(BLANKS)
        return cls(line, text.rstrip(BLANKS), start + len(raw) - len(text), escapes)

    @cached_property
    def text(self) -> str:
        """As it is meant."""
        return _ESCAPED.sub(r"\1", self.raw) if self.escapes else self.raw

    @property
    def word(self) -> str:
        """All up to the first blank."""
        return re.split(f"[{BLANKS}]", self.text, maxsplit=1)[0]

    def place(self, at: int) -> int:
        """Place in the line of the text's character `at`."""
        for match in _ESCAPED.finditer(self.raw) if self.escapes else ():
            at += match.start() < at
        return self.start + at

    def after(self, count: int) -> Field:
        """What follows the first `count` characters."""
        start = self.place(count)
        return Field.trimmed(self.line, self.raw[start - self.start :], start, self.escapes)

    def error(self, message: str, fix: str, at: int = 0) -> StoryboardError:
        """An error that points at the text's character `at`."""
        shown = re.sub(r"\s", " ", self.line.source)  # a tab would move the pointer away from its character
        if len(message) > LONGEST_MESSAGE:  # it quotes what was written
            message = f"{message[: LONGEST_MESSAGE // 2]} ... {message[-LONGEST_MESSAGE // 4 :]}"
        column = self.place(at) + 1
        return StoryboardError(message, fix, line=self.line.number, column=column, text=shown)


def split_lines(text: str) -> list[Line]:
    """Lines of `text`, whichever line break it uses; raises StoryboardError for half a character."""
    lines = [Line(number, source) for number, source in enumerate(re.split(r"\r\n|\n|\r", text), 1)]
    if _HALF.search(text):
        line, half = next((line, half) for line in lines if (half := _HALF.search(line.source)))
        shown = Field(Line(line.number, _HALF.sub("\ufffd", line.source)), "", half.start())
        raise shown.error("half of a character, which no file can hold", "delete or retype it")
    return lines


_HALF = re.compile("[\ud800-\udfff]")
"""Surrogates that came without the other one, as badly cut JSON has them."""


def escape(text: str) -> str:
    """Write `text` so that `Line.fields` reads it back."""
    return text.replace("\\", "\\\\").replace("|", "\\|")


def suggest(word: str, known: Iterable[str], otherwise: str, form: str = "'{}'") -> str:
    """`did you mean 'x'?` about the known word that `word` most likely stands for; `otherwise` if there is none."""
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f"did you mean {form.format(by_lower[close[0]])}?" if close else otherwise
