"""What a storyboard holds: segments, a cast and a style, as frozen values."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import cached_property

from ..errors import StoryboardError
from .verbs import Verb

DEFAULT_FPS = 16
DEFAULT_SECONDS = 5.0
MAX_SECONDS = 3600.0

MAX_PROMPT = 20_000
"""Characters of a prompt with cast and style in it: far more than any text encoder reads. Cast entries that use each
other could grow without bound."""

MAX_SEGMENTS = 20_000
"""A day of film. Reading and planning take time for each, before anything is said of them."""

BLANKS = " \t\u00a0\u3000\ufeff"
"""What counts as white space at the edges of a field; listed so that every reader of the text agrees."""

NAME = r"[^\W\d][\w-]*"
"""A cast name: a letter or underscore, then letters, digits, underscores and hyphens."""

REFERENCE = re.compile(r"\{(" + NAME + r")\}")


@dataclass(frozen=True)
class Segment:
    """One line of the storyboard."""

    verb: Verb
    """`start` (the first), `then` (same shot goes on), `cut` (new shot, same cast), `back` (new shot, the cast of an
    earlier segment), `scene` (forget all)."""
    prompt: str
    """What is seen, as written: `{name}` not yet expanded, no style."""
    seconds: float = DEFAULT_SECONDS
    """Asked length in seconds."""
    seed: int | None = None
    """Its own seed; None derives one from the film's seed and the prompt (`plan.derive_seed`)."""
    recache: float | None = None
    """Largest share of memory rebuilt under the new prompt (alpha_max, 0..1); None: as the memory is set."""
    blend: float | None = None
    """Seconds over which the text moves from the old prompt to this one."""
    mute: bool = False
    """Left out of the film, kept in the text."""
    back: int | None = None
    """For `back`: number of the segment, from 1, whose memory is recalled as it was at its end."""
    motion: bool = False
    """For `back`: its recent frames come back too, so that its shot goes on."""
    line: int = field(default=0, compare=False)
    """1-based line in the text it was read from; 0 when it was not."""

    def restarted(self, verb: Verb) -> Segment:
        """With a hard beginning; what only a `then` or a `back` can have is dropped."""
        return replace(self, verb=verb, recache=None, blend=None, back=None, motion=False)


@dataclass(frozen=True)
class Picture:
    """What somebody of the cast looks like."""

    file: str
    """Its name as written, with `/` between folders; looked up beside the storyboard."""
    line: int = field(default=0, compare=False)
    """1-based line in the text it was read from; 0 when it was not."""
    column: int = field(default=1, compare=False)
    """Where it stands in this line."""
    text: str = field(default="", compare=False)
    """The line."""

    def error(self, message: str, fix: str) -> StoryboardError:
        """An error that points at it."""
        return StoryboardError(message, fix, line=self.line, column=self.column, text=self.text)


@dataclass(frozen=True)
class Storyboard:
    """A whole film as text says it."""

    fps: int | float = DEFAULT_FPS
    """Pictures per second of film; not whole, it stands for the fraction next to it (`words.exact_rate`)."""
    seed: int | None = None
    """Seed of the film; segments without their own derive theirs from it. None: not said, which plans like 0."""
    style: str = ""
    """Appended to every prompt."""
    cast: dict[str, str] = field(default_factory=dict)
    """Name to description; a description may use the names before it."""
    segments: tuple[Segment, ...] = ()
    """The lines, in order."""
    pictures: dict[str, Picture] = field(default_factory=dict)
    """Name in the cast to its picture, where it has one."""

    def expanded(self, index: int) -> str:
        """The full prompt of segment `index`: cast names replaced, style appended.

        Raises KeyError for a name that is not in the cast (`parse` has refused those with line and column), and
        StoryboardError for a prompt of more than `MAX_PROMPT` characters.
        """
        segment = self.segments[index]
        prompt = segment.prompt
        if self.style:
            prompt += (" " if prompt[-1:] in ".,;:!?" else ", ") + self.style
        full = _expand(prompt, self._resolved_cast)
        if len(full) > MAX_PROMPT:
            raise StoryboardError(
                f"with cast and style the prompt has more than {MAX_PROMPT} characters",
                "say it in fewer words",
                line=segment.line,
            )
        return full

    def without_cast(self) -> Storyboard:
        """The same film said without names of the cast, for files that have no place for it; pictures are lost.

        Raises KeyError for a name that is not in the cast.
        """
        cast = self._resolved_cast
        parts = tuple(replace(part, prompt=_expand(part.prompt, cast)) for part in self.segments)
        return replace(self, style=_expand(self.style, cast), cast={}, pictures={}, segments=parts)

    def pictured(self, index: int) -> list[str]:
        """Files of the pictures of all who are named in segment `index`, its style too; in the order of the cast."""
        wanted = set(REFERENCE.findall(self.segments[index].prompt + self.style))
        for name in reversed(self.cast):  # a description may use the names before it
            if name in wanted:
                wanted.update(REFERENCE.findall(self.cast[name]))
        wanted &= self.pictures.keys()
        return list(dict.fromkeys(self.pictures[name].file for name in self.cast if name in wanted))

    @cached_property
    def _resolved_cast(self) -> dict[str, str]:
        resolved: dict[str, str] = {}
        for name, description in self.cast.items():
            resolved[name] = _expand(description, resolved)
        return resolved


def _expand(text: str, cast: dict[str, str]) -> str:
    """`text` with cast names replaced; cut off where it is certain to be too long."""
    parts, length, done = [], 0, 0
    for match in REFERENCE.finditer(text):
        parts += [text[done : match.start()], cast[match.group(1)]]
        length, done = length + len(parts[-2]) + len(parts[-1]), match.end()
        if length > MAX_PROMPT:
            break
    return "".join([*parts, text[done:]])[: MAX_PROMPT + 1]
