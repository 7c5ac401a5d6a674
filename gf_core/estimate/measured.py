"""What films took on this machine before: how fast they were made and how large they became, for the next estimate."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import Encoding, Fit, Recipe, VideoSpec, later
from ..files.cache import cache_dir, newest, recall, remember
from ..take.facts import hash_facts

if TYPE_CHECKING:
    from .room import ModelCost

KEPT = 400
"""Measurements kept; the oldest go first."""
MEMORABLE = 2000
"""Pictures that an earlier size of film counts for at most, so that the newest films weigh."""


@dataclass(frozen=True)
class Pace:
    """How fast films are made."""

    fps: float
    """Pictures per second once it is under way, decoding and encoding included."""
    extra: float = 0.0
    """Seconds besides, whatever the film's length: looking, prompts, the first chunk, the end."""


def speed_key(cost: ModelCost, recipe: Recipe) -> str:
    """Name of a pace: everything that the time of a chunk depends on."""
    memory, video = recipe.memory, recipe.video
    window = [memory.anchors, memory.recent, memory.chunk, *sorted(later(memory).items())]
    made_by = [cost.device, cost.fingerprint, cost.value_bytes, cost.decoder]
    made_by += [*astuple(cost.fit)] if cost.fit != Fit() else []
    made_by += ["compiled"] if cost.compiled else []
    made_by += ["ranks", cost.ranks] if cost.ranks > 1 else []
    return hash_facts([*made_by, window, len(recipe.sample.steps), video.width, video.height])[:24]


def size_key(fingerprint: str, video: VideoSpec, encoding: Encoding) -> str:
    """Name of a size: everything that the bits of a film depend on, but what it shows."""
    return hash_facts(["bits", fingerprint, video.width, video.height, *astuple(encoding)])[:24]


def sheet_key(fingerprint: str, video: VideoSpec) -> str:
    """Name of the size of contact sheets, in bits per segment."""
    return hash_facts(["sheet", fingerprint, video.width, video.height])[:24]


def recall_pace(key: str) -> Pace | None:
    """The pace of the last film with this key, or None."""
    found = _read().get(key)
    return None if found is None else Pace(*found)


def remember_pace(key: str, pace: Pace) -> None:
    """Keep a pace; a cache folder that cannot be written costs a log line, not the film."""
    if math.isfinite(pace.fps) and pace.fps > 0:
        _keep(key, [pace.fps, max(0.0, pace.extra)])


def recall_bits(key: str) -> float | None:
    """What `remember_bits` was told under this key, weighted by the films' lengths; None where there was nothing."""
    found = _read().get(key)
    return None if found is None else found[0]


def remember_bits(key: str, bits: float, frames: int) -> None:
    """Count in a film of `frames` pictures: bits per pixel, or per segment of its sheet."""
    if not (math.isfinite(bits) and bits > 0 and frames > 0):
        return
    was, weight = _read().get(key, [bits, 0])
    weight = min(weight, MEMORABLE)
    _keep(key, [(was * weight + bits * frames) / (weight + frames), weight + frames])


def _keep(key: str, value: list[float]) -> None:
    remember(_file(), newest(_read(), key, value, KEPT), "what the film took")


def _file() -> Path:
    return cache_dir("measured") / "measured.json"


def _read() -> dict[str, list[float]]:
    def pairs(found: Any) -> dict[str, list[float]]:
        return {key: [float(first), float(second)] for key, (first, second) in found.items()}

    return recall(_file(), pairs, {}, "what films took before is dropped")
