"""Episodes of EntityBench (arXiv 2605.15199): scenes of shots, and descriptions of who and what is seen in them.

`cut` says of every shot whether it is a new one or goes on from the one before. The cast lives through all scenes, so a
scene begins with a cut. A description that a prompt quotes behind its name becomes a name of the cast.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ...foreign import known_values
from .told import NO_LENGTHS, Shot, Told, one_line

PROGRAM = "an episode of EntityBench"


@dataclass(frozen=True)
class _Scene:
    video_prompts: tuple[str, ...] = ()
    cut: tuple[bool, ...] = ()


@dataclass(frozen=True)
class _Entity:
    name: str = ""
    description: str = ""


@dataclass(frozen=True)
class _Episode:
    scenes: tuple[dict, ...] = ()
    entity_descriptions: dict | None = None
    entity_schedule: dict | None = None
    story_overview: str = ""


def read_episode(whole: dict[str, Any]) -> Told:
    """The episode; raises ValueError for values of other types."""
    episode = known_values(_Episode(), whole)
    shots: list[Shot] = []
    for scene in (known_values(_Scene(), scene) for scene in episode.scenes):
        for number, prompt in enumerate(scene.video_prompts):
            cut = number == 0 or number >= len(scene.cut) or scene.cut[number]
            shots.append(Shot(prompt, verb="cut" if cut else "then"))
    entities = [known_values(_Entity(), entity) for entity in (episode.entity_descriptions or {}).values()]
    cast, shots = _with_cast(entities, shots)
    left = [
        "who is seen when" if episode.entity_schedule else "",
        "its overview" if episode.story_overview else "",
    ]
    return Told(PROGRAM, shots, cast=cast, assumed=[NO_LENGTHS], left=left)


def _with_cast(entities: list[_Entity], shots: list[Shot]) -> tuple[dict[str, str], list[Shot]]:
    """The descriptions that prompts quote as a cast, and the prompts with its names in their place."""
    quotes: dict[str, str] = {}
    cast: dict[str, str] = {}
    for entity in entities:
        name = re.sub(r"[^\w-]+", "-", entity.name).strip("-")[:60]
        description = one_line(entity.description, f"the description of {entity.name[:40]}")
        if not name or name[0].isdecimal() or name in cast or not description:
            continue
        quotes[f"{entity.name}: {entity.description}\n"] = f"{entity.name}: {{{name}}}\n"
        cast[name] = description
    if not quotes:
        return {}, shots
    quoted = re.compile(
        "^(?:" + "|".join(map(re.escape, sorted(quotes, key=len, reverse=True))) + ")", re.MULTILINE
    )
    used: set[str] = set()

    def named(match: re.Match[str]) -> str:
        used.add(quotes[match[0]])
        return quotes[match[0]]

    shots = [Shot(quoted.sub(named, shot.prompt), shot.seconds, shot.verb) for shot in shots]
    names = {quote.rpartition("{")[2][:-2] for quote in used}
    return {name: words for name, words in cast.items() if name in names}, shots
