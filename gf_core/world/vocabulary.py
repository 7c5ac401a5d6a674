"""Closed vocabulary of the storyboard world: class names, caption phrases, and reading a caption back.

The tuples are class lists (index = class id). `ATTRIBUTES` is the one table of what a film of this world can be
asked about; whoever has heads, labels or scores per attribute derives them from it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

SUBJECTS = ("fox", "robot", "ghost", "owl", "snail", "frog")
COLOURS = ("red", "yellow", "green", "blue", "purple", "white")
ACTIONS = ("stands still", "walks left", "walks right", "jumps", "dances", "sleeps")
PLACES = ("meadow", "desert", "forest", "snow", "beach", "city")
TIMES = ("noon", "sunset", "night")

SCARVES = ("orange", "cyan", "pink", "navy", "lime", "brown")
HATS = ("none", "party", "top", "crown")
PATCHES = ("none", "belly", "spots")
SUNS = 3
LAYOUTS = 4
TINTS = 3

ATTRIBUTES = {
    "subject": SUBJECTS,
    "colour": COLOURS,
    "scarf": SCARVES,
    "hat": HATS,
    "patch": PATCHES,
    "place": PLACES,
    "time": TIMES,
    "action": ACTIONS,
}
"""Class names of every attribute; a `Segment`'s labels have this order."""
HIDDEN = ("scarf", "hat", "patch")
"""What no caption says, so that only memory can carry it across a cut."""
IDENTITY = (*HIDDEN, "subject", "colour")
"""What makes an individual."""
SCENE = ("place", "time")
"""What the whole picture tells, not the character."""
PICTURED = tuple(name for name in ATTRIBUTES if name != "action")
"""What a single picture tells."""
PROMPTED = ("subject", "colour", "place", "time", "action")
"""What a caption can say."""

STAND, LEFT, RIGHT, JUMP, DANCE, SLEEP = range(6)
NOON, SUNSET, NIGHT = range(3)

ACTION_PHRASES = (
    ("stands still", "waits", "stays still"),
    ("walks left", "strolls to the left", "goes left"),
    ("walks right", "strolls to the right", "goes right"),
    ("jumps", "hops up and down", "keeps jumping"),
    ("dances", "sways from side to side", "does a dance"),
    ("sleeps", "takes a nap", "is fast asleep"),
)
PLACE_PHRASES = (
    ("in a meadow", "on a grassy meadow", "in the meadow"),
    ("in a desert", "in the sandy desert", "in the desert"),
    ("in a forest", "among tall trees", "in the forest"),
    ("in the snow", "on a snowy hill", "on the snowy hills"),
    ("on a beach", "by the sea", "on the beach"),
    ("in a city", "on a city street", "in the city"),
)
TIME_PHRASES = (
    ("at noon", "in daylight"),
    ("at sunset", "at dusk"),
    ("at night", "under the moon"),
)
_OPENINGS = ("then", "now", "it", "the same", "the", "a")

_ACTION_KEYS = (
    {"still", "waits"},
    {"left"},
    {"right"},
    {"jumps", "hops", "jumping"},
    {"dances", "sways", "dance"},
    {"sleeps", "nap", "asleep"},
)
_PLACE_KEYS = (
    {"meadow"},
    {"desert"},
    {"forest", "trees"},
    {"snow", "snowy"},
    {"beach", "sea"},
    {"city"},
)
_TIME_KEYS = ({"noon", "daylight"}, {"sunset", "dusk"}, {"night", "moon"})


def words() -> tuple[str, ...]:
    """Every word that a caption can contain, sorted."""
    found: set[str] = {*SUBJECTS, *COLOURS}
    for phrases in (*ACTION_PHRASES, *PLACE_PHRASES, *TIME_PHRASES, _OPENINGS):
        for phrase in phrases:
            found.update(phrase.split())
    return tuple(sorted(found))


@dataclass(frozen=True)
class Labels:
    """What is asked for by a caption, as class ids; None for what neither it nor its forerunner says."""

    subject: int | None = None
    "Index in SUBJECTS."
    colour: int | None = None
    "Index in COLOURS."
    action: int | None = None
    "Index in ACTIONS."
    place: int | None = None
    "Index in PLACES."
    time: int | None = None
    "Index in TIMES."


def _find(tokens: list[str], keys: tuple[set[str], ...]) -> int | None:
    for index, group in enumerate(keys):
        if group.intersection(tokens):
            return index
    return None


def describe(caption: str, previous: Labels | None = None) -> Labels:
    """Read a caption; what is left out ("it", no place) is inherited from `previous`.

    A caption that names a place but no time means noon, wherever the previous shot was.
    """
    tokens = caption.lower().replace(",", " ").replace(".", " ").split()
    before = previous or Labels()
    subject = _find(tokens, tuple({name} for name in SUBJECTS))
    colour = _find(tokens, tuple({name} for name in COLOURS))
    action = _find(tokens, _ACTION_KEYS)
    place = _find(tokens, _PLACE_KEYS)
    time = _find(tokens, _TIME_KEYS)
    if time is None:
        time = before.time if place is None else NOON
    return Labels(
        subject=before.subject if subject is None else subject,
        colour=before.colour if colour is None else colour,
        action=before.action if action is None else action,
        place=before.place if place is None else place,
        time=time,
    )


def name_of(subject: int, colour: int) -> str:
    """The visible name of a character: "red fox"."""
    return f"{COLOURS[colour]} {SUBJECTS[subject]}"


def _where(rng: random.Random, place: int, time: int) -> str:
    text = rng.choice(PLACE_PHRASES[place])
    if time == NOON and rng.random() < 0.6:
        return text
    return f"{text} {rng.choice(TIME_PHRASES[time])}"


def scene_caption(rng: random.Random, subject: int, colour: int, action: int, place: int, time: int) -> str:
    """A caption that introduces somebody: "a red fox walks left in a meadow at sunset"."""
    return f"a {name_of(subject, colour)} {rng.choice(ACTION_PHRASES[action])} {_where(rng, place, time)}"


def then_caption(rng: random.Random, subject: int, colour: int, action: int) -> str:
    """A change of action within the shot: half in full, half elliptical ("then it jumps")."""
    who = "it" if rng.random() < 0.5 else f"the {name_of(subject, colour)}"
    opening = rng.choice(("", "", "then ", "now "))
    return f"{opening}{who} {rng.choice(ACTION_PHRASES[action])}"


def cut_caption(
    rng: random.Random, subject: int, colour: int, action: int, place: int, time: int, may_say_it: bool
) -> str:
    """The same character elsewhere; `may_say_it` is false when "it" would mean somebody else."""
    name = name_of(subject, colour)
    choices = [f"the same {name}", f"the same {name}", f"the {name}"]
    if may_say_it:
        choices.append("it")
    return f"{rng.choice(choices)} {rng.choice(ACTION_PHRASES[action])} {_where(rng, place, time)}"
