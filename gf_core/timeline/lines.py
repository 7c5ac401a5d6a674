"""Lines of storyboard text: fields between `|`, where each character stands, and errors that point there."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import StoryboardError
from .storyboard import BLANKS

LONGEST_MESSAGE = 400
"""Characters of an error's message; a longer one loses its middle."""


@dataclass(frozen=True)
class Field:
    """A trimmed, unescaped part of a line."""

    text: str
    """The text itself."""
    columns: tuple[int, ...]
    """1-based column of every character, then of the place just after the last one."""

    @property
    def column(self) -> int:
        """Column of the first character."""
        return self.columns[0]

    def after(self, count: int) -> Field:
        """What follows the first `count` characters, trimmed."""
        return _trim(self.text[count:], self.columns[count:])


@dataclass(frozen=True)
class Line:
    """One physical line."""

    number: int
    """1-based."""
    source: str
    """As written, without its line break."""

    def whole(self) -> Field:
        """The trimmed line as one field, nothing unescaped."""
        return _trim(self.source, tuple(range(1, len(self.source) + 2)))

    def fields(self) -> list[Field]:
        r"""The parts between `|`; `\|` is a bar and `\\` a backslash inside a part."""
        fields: list[Field] = []
        text: list[str] = []
        columns: list[int] = []
        at, source = 0, self.source
        while at < len(source):
            if source[at] == "|":
                fields.append(_trim("".join(text), (*columns, at + 1)))
                text, columns = [], []
                at += 1
                continue
            columns.append(at + 1)
            if source[at] == "\\" and source[at + 1 : at + 2] in ("|", "\\"):
                at += 1
            text.append(source[at])
            at += 1
        fields.append(_trim("".join(text), (*columns, len(source) + 1)))
        return fields

    def error(self, column: int, message: str, fix: str) -> StoryboardError:
        """An error that points at `column` of this line."""
        shown = re.sub(r"\s", " ", self.source)  # a tab would move the pointer away from its character
        if len(message) > LONGEST_MESSAGE:  # it quotes what was written
            message = f"{message[: LONGEST_MESSAGE // 2]} ... {message[-LONGEST_MESSAGE // 4 :]}"
        return StoryboardError(message, fix, line=self.number, column=column, text=shown)


def split_lines(text: str) -> list[Line]:
    """Lines of `text`, whichever line break it uses; raises StoryboardError for half a character."""
    lines = [Line(number, source) for number, source in enumerate(re.split(r"\r\n|\n|\r", text), 1)]
    if _HALF.search(text):
        line, half = next((line, half) for line in lines if (half := _HALF.search(line.source)))
        shown = Line(line.number, _HALF.sub("\ufffd", line.source))
        raise shown.error(
            half.start() + 1, "half of a character, which no file can hold", "delete or retype it"
        )
    return lines


_HALF = re.compile("[\ud800-\udfff]")
"""Surrogates that came without the other one, as badly cut JSON has them."""


def escape(text: str) -> str:
    """Write `text` so that `Line.fields` reads it back."""
    return text.replace("\\", "\\\\").replace("|", "\\|")


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` most likely stands for, or None."""
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[close[0]] if close else None


def _trim(text: str, columns: tuple[int, ...]) -> Field:
    start = len(text) - len(text.lstrip(BLANKS))
    stop = max(start, len(text.rstrip(BLANKS)))
    return Field(text[start:stop], columns[start : stop + 1])
