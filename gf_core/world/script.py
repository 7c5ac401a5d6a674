"""Scripts of the storyboard world: what happens when, drawn from a random generator.

A script is a list of segments at chunk boundaries. Chunk 0 shows 9 frames, every later one 12 (three latent
frames of a codec that turns 1 + 4(n-1) frames into n), so n chunks last 12n - 3 frames.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..errors import GroundedError
from .vocabulary import (
    ACTIONS,
    COLOURS,
    HATS,
    LAYOUTS,
    LEFT,
    PATCHES,
    PLACES,
    RIGHT,
    SCARVES,
    SUBJECTS,
    SUNS,
    TIMES,
    TINTS,
    cut_caption,
    scene_caption,
    then_caption,
)

FPS = 16
CHUNK_FRAMES = 12
FIRST_CHUNK_FRAMES = 9
X_MIN, X_MAX = 27.0, 69.0
WALK_SPEED = 0.5
KINDS = ("single", "switch", "cut", "scene", "return", "mixed")


@dataclass(frozen=True)
class Character:
    """One individual: what a caption may name (subject, colour) and what it never names."""

    subject: int
    "Index in SUBJECTS."
    colour: int
    "Index in COLOURS."
    scarf: int
    "Index in SCARVES, hidden."
    hat: int
    "Index in HATS, hidden."
    patch: int
    "Index in PATCHES, hidden."


@dataclass(frozen=True)
class Place:
    """One particular place: its kind and time are said, the rest is hidden."""

    place: int
    "Index in PLACES."
    time: int
    "Index in TIMES."
    sun: int
    "Position of the sun or moon, below SUNS."
    layout: int
    "Arrangement of hills and props, below LAYOUTS."
    tint: int
    "Colour cast, below TINTS."


@dataclass(frozen=True)
class Segment:
    """One prompt of a script and what it shows."""

    start_chunk: int
    "First chunk."
    chunks: int
    "Length in chunks."
    verb: str
    "start, then, cut or scene."
    caption: str
    "The prompt."
    character: Character
    "Who is seen."
    place: Place
    "Where."
    action: int
    "Index in ACTIONS."
    x: float
    "Column of the character's feet at the first frame, a multiple of 0.5 px."

    @property
    def labels(self) -> tuple[int, ...]:
        """Class ids in the order of `vocabulary.ATTRIBUTES`."""
        who, where = self.character, self.place
        return who.subject, who.colour, who.scarf, who.hat, who.patch, where.place, where.time, self.action

    @property
    def first_frame(self) -> int:
        """Index of the first frame."""
        return frames_in(self.start_chunk)

    @property
    def frames(self) -> int:
        """Number of frames."""
        return frames_in(self.start_chunk + self.chunks) - self.first_frame


@dataclass(frozen=True)
class Script:
    """A whole clip."""

    segments: tuple[Segment, ...]
    "Segments in order, without gaps."
    seed: int
    "Seed of the small moving things (clouds, flakes)."
    kind: str
    "The kind that it was sampled as."

    @property
    def chunks(self) -> int:
        """Length in chunks."""
        return sum(segment.chunks for segment in self.segments)

    @property
    def frames(self) -> int:
        """Length in frames."""
        return frames_in(self.chunks)


def frames_in(chunks: int) -> int:
    """Number of frames of the first `chunks` chunks."""
    return 0 if chunks <= 0 else CHUNK_FRAMES * chunks - (CHUNK_FRAMES - FIRST_CHUNK_FRAMES)


def walked(x: float, action: int, frame: int | np.ndarray) -> float | np.ndarray:
    """Column after `frame` frames of an action; a walker marches on the spot at the margin."""
    if action == LEFT:
        return np.maximum(x - WALK_SPEED * frame, min(x, X_MIN))
    if action == RIGHT:
        return np.minimum(x + WALK_SPEED * frame, max(x, X_MAX))
    return x + 0.0 * frame


def storyboard(script: Script) -> str:
    """The script as storyboard text: one line a segment, "verb: caption | seconds"."""
    lines = []
    for segment in script.segments:
        head = "" if segment.verb == "start" else f"{segment.verb}: "
        seconds = segment.chunks * CHUNK_FRAMES / FPS
        lines.append(f"{head}{segment.caption} | {seconds:g}s")
    return "\n".join(lines) + "\n"


class _Author:
    """Writes one script; remembers who and where has been seen, so that a name means one thing only."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.cast: list[Character] = []
        self.places: dict[tuple[int, int], Place] = {}
        self.segments: list[Segment] = []

    def new_character(self) -> Character:
        rng = self.rng
        taken = {(c.subject, c.colour) for c in self.cast}
        while True:
            subject, colour = rng.randrange(len(SUBJECTS)), rng.randrange(len(COLOURS))
            if (subject, colour) not in taken or len(taken) >= len(SUBJECTS) * len(COLOURS):
                break
        character = Character(
            subject,
            colour,
            rng.randrange(len(SCARVES)),
            rng.randrange(len(HATS)),
            rng.randrange(len(PATCHES)),
        )
        self.cast.append(character)
        return character

    def new_place(self) -> Place:
        rng = self.rng
        current = self.segments[-1].place if self.segments else None
        while True:
            key = rng.randrange(len(PLACES)), rng.randrange(len(TIMES))
            if current is None or key[0] != current.place:
                break
        if key not in self.places:
            self.places[key] = Place(*key, rng.randrange(SUNS), rng.randrange(LAYOUTS), rng.randrange(TINTS))
        return self.places[key]

    def new_x(self, action: int) -> float:
        lo, hi = {LEFT: (46, 69), RIGHT: (27, 50)}.get(action, (30, 66))
        return float(self.rng.randint(lo, hi))

    def new_action(self, x: float | None) -> int:
        """An action other than the present one; in a shot that goes on, one with room to walk."""
        rng = self.rng
        present = self.segments[-1].action if self.segments else None
        while True:
            action = rng.randrange(len(ACTIONS))
            cramped = x is not None and (
                (action == LEFT and x < X_MIN + 12) or (action == RIGHT and x > X_MAX - 12)
            )
            if action != present and not cramped:
                return action

    def add(
        self, verb: str, chunks: int, caption: str, who: Character, where: Place, action: int, x: float
    ) -> None:
        start = sum(s.chunks for s in self.segments)
        self.segments.append(Segment(start, chunks, verb, caption, who, where, action, x))

    def introduce(self, verb: str, chunks: int) -> None:
        who, where, action = self.new_character(), self.new_place(), self.new_action(None)
        caption = scene_caption(self.rng, who.subject, who.colour, action, where.place, where.time)
        self.add(verb, chunks, caption, who, where, action, self.new_x(action))

    def then(self, chunks: int) -> None:
        last = self.segments[-1]
        x = float(walked(last.x, last.action, last.frames))
        action = self.new_action(x)
        caption = then_caption(self.rng, last.character.subject, last.character.colour, action)
        self.add("then", chunks, caption, last.character, last.place, action, x)

    def cut(self, chunks: int, who: Character | None = None, where: Place | None = None) -> None:
        """The same character, or an earlier one, elsewhere."""
        last = self.segments[-1].character
        who = who or last
        where = where or self.new_place()
        action = self.new_action(None)
        caption = cut_caption(
            self.rng, who.subject, who.colour, action, where.place, where.time, may_say_it=who == last
        )
        self.add("cut", chunks, caption, who, where, action, self.new_x(action))

    def come_back(self, chunks: int) -> None:
        """Cut back to an earlier character, half of the time where it was first seen."""
        last = self.segments[-1].character
        since = max(i for i, s in enumerate(self.segments) if s.verb in ("start", "scene"))
        earlier = [s for s in self.segments[since:] if s.character != last]
        if not earlier:
            self.introduce("cut", chunks)
            return
        first = self.rng.choice(earlier)
        same_place = first.place.place != self.segments[-1].place.place and self.rng.random() < 0.5
        self.cut(chunks, first.character, first.place if same_place else None)


def _lengths(rng: random.Random, chunks: int, parts: int) -> list[int]:
    """Split `chunks` into `parts` lengths, each of at least two chunks when there is room."""
    least = 2 if chunks >= 2 * parts else 1
    spare = chunks - least * parts
    cuts = sorted(rng.randint(0, spare) for _ in range(parts - 1))
    edges = [0, *cuts, spare]
    return [least + b - a for a, b in pairwise(edges)]


def sample_script(rng: random.Random, chunks: int, kind: str) -> Script:
    """Draw a script of `chunks` chunks and a kind of KINDS; the same generator state gives the same script.

    Raises GroundedError when the kind is unknown or the clip is too short for it.
    """
    if kind not in KINDS:
        raise GroundedError(f"unknown kind of script {kind!r}", f"choose one of {', '.join(KINDS)}")
    least = {"single": 1, "return": 3}.get(kind, 2)
    if chunks < least:
        raise GroundedError(
            f"a {kind} script needs at least {least} chunks, not {chunks}", "ask for a longer clip"
        )
    parts = least
    if kind == "mixed":
        parts = 1 + max(1, min(rng.randint(2, 4), chunks // 2 - 1))
    lengths = _lengths(rng, chunks, parts)
    author = _Author(rng)
    author.introduce("start", lengths[0])
    for number, length in enumerate(lengths[1:], 1):
        event = kind
        if kind == "mixed":
            event = rng.choice(("switch", "switch", "cut", "cut", "scene", "return"))
        if event == "switch":
            author.then(length)
        elif event == "cut":
            author.cut(length)
        elif event == "scene":
            author.introduce("scene", length)
        elif kind == "return" and number == 1:
            author.introduce("cut", length)
        else:
            author.come_back(length)
    return Script(tuple(author.segments), rng.getrandbits(32), kind)
