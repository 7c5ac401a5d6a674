"""A closed vocabulary: what the built-in model's text encoder can read, and the words in which the rest is refused."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from ..errors import PromptError
from ..words import UNSEEN, plain

END, UNKNOWN_LIMIT = 0, 6
LONGEST = 40
"""Characters of a word that are told and compared: some scripts have no blanks."""
CLOSE = 0.66
"""Likeness from which a known word of that length and first letter was meant: `fux` and `fox` have 0.67."""
NEARLY = 0.75
"""Likeness from which any known word was: `ear` is not `sea`, and `small` not `tall`."""
_WORD = re.compile(r"(?:[^\W_]|')+")  # of any script: what it cannot read is told and not left out
_HEAD = re.compile(rf"[\s{UNSEEN}]*[@＠]")  # a directive, whose text may go into every prompt
_LENGTH = re.compile("[0-9]+(s|sec|seconds|f|frames|ms|min)")


class Vocabulary:
    """All words that there are; a prompt with another one is refused, and so is one with too many."""

    listed = "docs/storyboard.md"
    """where people find all of the words; a host may have another place for them"""

    def __init__(self, words: Sequence[str], max_words: int) -> None:
        self.words, self.max_words = tuple(words), max_words
        self.index = {word: i + 1 for i, word in enumerate(self.words)}

    def tokenize(self, prompt: str) -> list[int]:
        """Word ids with the end token; raises PromptError for words outside the vocabulary or too many of them."""
        self._refuse_unknown({word: [] for word in self.unknown(prompt)}, f' (in "{prompt.strip()[:200]}")')
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
        lines = re.split(r"\r\n|\n|\r", text)
        uses: dict[str, list[int]] = {}
        for line, prompt in spoken:
            for word in self.unknown(prompt):
                uses.setdefault(word, []).append(line)
        heads = [number for number, line in enumerate(lines, 1) if _HEAD.match(line)]
        found = {word: _places(word, used, lines, heads) for word, used in uses.items()}
        self._refuse_unknown(found, lines=lines)
        for line, prompt in spoken:
            if (count := len(_WORD.findall(prompt.lower()))) > self.max_words:
                message = f"prompt of {count} words, the built-in model reads {self.max_words}"
                raise PromptError(message, "Shorten the prompt.", line=line, column=1, text=lines[line - 1])

    def unknown(self, prompt: str) -> list[str]:
        """The words of a prompt that are not in it, each once."""
        return [word for word in dict.fromkeys(_WORD.findall(prompt.lower())) if word not in self.index]

    def _meant(self, word: str) -> list[str]:
        """The known word that was most likely meant, if there is one."""
        found = difflib.get_close_matches(word[:LONGEST], self.words, 3, CLOSE)
        mistyped = [match for match in found if len(match) == len(word) and match[0] == word[0]]
        return (difflib.get_close_matches(word[:LONGEST], self.words, 1, NEARLY) or mistyped)[:1]

    def _refuse_unknown(
        self, found: dict[str, list[tuple[int, int]]], where: str = "", lines: Sequence[str] = ()
    ) -> None:
        if not found:
            return
        # The one that the error points at comes first.
        found = dict(sorted(found.items(), key=lambda item: min(item[1], default=(0, 0))))
        told, near = [], []
        several = len({line for places in found.values() for line, _ in places}) > 1  # one stands in front
        for word, places in list(found.items())[:UNKNOWN_LIMIT]:
            numbers = list(dict.fromkeys(str(line) for line, _ in places))
            said = plain(word, LONGEST)
            told.append(
                f"{said} (line{'s' * (len(numbers) > 1)} {', '.join(numbers[:4])})" if several else said
            )
            near += [f"{match} for {word}" for match in self._meant(word)]
        more = f" and {len(found) - UNKNOWN_LIMIT} more" if len(found) > UNKNOWN_LIMIT else ""
        line, column = min((place for places in found.values() for place in places), default=(0, 0))
        tips = ["a length stands behind a bar: | 5s."] if any(map(_LENGTH.fullmatch, found)) else []
        tips += [f"did you mean {', '.join(near)}?"] if near else []
        tips.append(f"{'All' if tips else 'all'} its {len(self.words)} words are in {self.listed}")
        raise PromptError(
            f"the built-in model does not know: {', '.join(told)}{more}{where}",
            f"{' '.join(tips)}, a full Wan model reads any text",
            line=line,
            column=column,
            text=lines[line - 1] if line else "",
        )


def _places(
    word: str, used: Sequence[int], lines: Sequence[str], heads: Sequence[int]
) -> list[tuple[int, int]]:
    """Line and column of `word` for each segment, on a line of `used`, that says it: there, or in the cast or style
    that brought it, which are on lines `heads`."""
    pattern = re.compile(rf"(?<![^\W_])(?<!'){re.escape(word)}(?![^\W_]|')", re.IGNORECASE)
    columns = {number: found.start() + 1 for number in used if (found := pattern.search(lines[number - 1]))}
    brought = list[tuple[int, int]]()
    if len(columns) < len(used):
        hits = ((number, pattern.search(lines[number - 1])) for number in heads)
        brought = next(([(number, hit.start() + 1)] for number, hit in hits if hit), [])
    return [(n, columns[n]) if n in columns else (brought or [(n, 1)])[0] for n in used]
