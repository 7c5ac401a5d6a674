"""Lines of storyboard text: fields between `|`, where each character stands, and errors that point there."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from ..errors import StoryboardError
from ..words import UNSEEN
from .storyboard import BLANKS

LONGEST_MESSAGE = 400
"""Characters of an error's message; a longer one loses its middle."""
LONGEST_WORD = 40
MOST_WIDE_BARS = 50
"""Other bars than `|` of a prompt that are asked whether an option stands behind them."""


EDGES = BLANKS + UNSEEN + "\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f"
_DIGITS = (0x660, 0x6F0, 0x966, 0x9E6, 0xE50)
"""Zeros of Arabic, Persian, Devanagari, Bengali and Thai digits."""
_HALF_WIDTH = {
    **{ord(blank): " " for blank in EDGES},
    **{code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},
    **{zero + digit: str(digit) for zero in _DIGITS for digit in range(10)},
    **{0x66B: ".", 0x2212: "-", 0xFE55: ":"},
}

BARS = "|｜￨│┃∣¦"
"""The bar, its full-width sister, and signs that are taken for it: U+FFE8, U+2502, U+2503, U+2223, U+00A6."""
_BAR = re.compile(rf"\\.|[{BARS}]")
_ESCAPED = re.compile(rf"\\([\\{BARS}])")
FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, at which other programs end a text, and halves of characters, as badly cut JSON has them."""


def half_width(text: str) -> str:
    """`text` as a keyboard of letters without width would write it: half-width letters, signs and digits, blanks.

    It has the same length, so that a place in it is one in `text`.
    """
    return text.translate(_HALF_WIDTH)


@dataclass(frozen=True)
class Line:
    """One physical line."""

    number: int
    """1-based."""
    source: str
    """As written, without its line break."""

    @property
    def sign(self) -> str:
        """Its first character that is no blank, in half width; empty for a line of blanks."""
        return half_width(self.source.lstrip(EDGES)[:1])

    def whole(self) -> Field:
        """The trimmed line as one field, nothing unescaped."""
        return Field(self, self.source, 0, escapes=False).trimmed()

    def fields(self, is_option: Callable[[Field], bool]) -> tuple[Field, Iterator[Field]]:
        r"""What stands before the first bar, and the parts between the others; `\|` is no bar, `\\` a backslash.

        Another of `BARS` in front of the first `|` is a bar if `is_option` holds for what follows it.
        """
        bars = [match.start() for match in _BAR.finditer(self.source) if match[0] in BARS]
        ends = [*bars[1:], len(self.source)]

        def part(number: int) -> Field:
            bar = bars[number]
            return Field(self, self.source[bar + 1 : ends[number]], bar + 1).trimmed(EDGES)

        for number, bar in enumerate(bars):
            if self.source[bar] == "|" or (number < MOST_WIDE_BARS and is_option(part(number))):
                return Field(self, self.source[:bar], 0).trimmed(), map(part, range(number, len(bars)))
        return Field(self, self.source, 0).trimmed(), iter(())


@dataclass(frozen=True)
class Field:
    """A part of a line."""

    line: Line
    raw: str
    """As written."""
    start: int
    """Place of its first character in the line, from 0."""
    escapes: bool = True
    r"""Whether `\|` and `\\` stand for a bar and a backslash."""

    def trimmed(self, blanks: str = BLANKS) -> Field:
        """The same without blanks at its edges."""
        raw = self.raw.lstrip(blanks)
        return replace(self, raw=raw.rstrip(blanks), start=self.start + len(self.raw) - len(raw))

    @cached_property
    def text(self) -> str:
        """As it is meant."""
        return _ESCAPED.sub(r"\1", self.raw) if self.escapes else self.raw

    @cached_property
    def plain(self) -> str:
        """The text in half-width characters: what verbs, directives and options are read from."""
        return half_width(self.text)

    @property
    def word(self) -> str:
        """All up to the first blank."""
        return self.text[: len(self.plain.partition(" ")[0])]

    def place(self, at: int) -> int:
        """Place in the line of the text's character `at`."""
        # Every escape in front of it is a character more in the line than in the text.
        for match in _ESCAPED.finditer(self.raw) if self.escapes else ():
            at += match.start() < at
        return self.start + at

    def after(self, count: int) -> Field:
        """What follows the first `count` characters, trimmed."""
        start = self.place(count)
        return replace(self, raw=self.raw[start - self.start :], start=start).trimmed()

    def error(self, message: str, fix: str, at: int = 0) -> StoryboardError:
        """An error that points at the text's character `at`."""
        if len(message) > LONGEST_MESSAGE:  # it quotes what was written
            message = f"{message[: LONGEST_MESSAGE // 2]} ... {message[-LONGEST_MESSAGE // 4 :]}"
        column = self.place(at) + 1
        return StoryboardError(message, fix, line=self.line.number, column=column, text=self.line.source)


def split_lines(text: str) -> list[Line]:
    """Lines of `text`, whichever line break it uses; raises StoryboardError for what no text should hold."""
    lines = [Line(number, source) for number, source in enumerate(re.split(r"\r\n|\n|\r", text), 1)]
    if FORBIDDEN.search(text):
        line, found = next((line, found) for line in lines if (found := FORBIDDEN.search(line.source)))
        code = ord(found[0])
        what = f"a control character (U+{code:04X})" if code < 0xD800 else "half of a character"
        message = f"{what}, which no film can carry in its storyboard"
        raise Field(line, "", found.start()).error(message, "delete or retype it")
    return lines


def escape(text: str) -> str:
    """Write `text` so that `Line.fields` reads it back."""
    return re.sub(rf"[\\{BARS}]", r"\\\g<0>", text)


def suggest(word: str, known: Iterable[str], otherwise: str, form: str = "'{}'") -> str:
    """`did you mean 'x'?` about the known word that `word` most likely stands for; `otherwise` if there is none.

    Words of more than `LONGEST_WORD` characters are not compared, which would take seconds.
    """
    by_lower = {name.lower(): name for name in known if len(name) <= LONGEST_WORD >= len(word)}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f"did you mean {form.format(by_lower[close[0]])}?" if close else otherwise
