"""How fast films were made on this machine before, so that the next one's minutes can be told beforehand."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from pathlib import Path

from ..config import MemorySpec, SampleSpec, VideoSpec
from ..userdirs import cache_dir
from .disk import write_json

log = logging.getLogger("grounded")
KEPT = 200
"""Measurements kept; the oldest go first."""


def speed_key(device: str, fingerprint: str, memory: MemorySpec, sample: SampleSpec, video: VideoSpec) -> str:
    """Name of a measurement: everything that the time of a chunk depends on."""
    window = [memory.anchors, memory.recent, memory.chunk]
    facts = [device, fingerprint, window, len(sample.steps), video.width, video.height]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]


def recall_speed(key: str) -> float | None:
    """Pictures per second of the last film with this key, or None."""
    return _read(_file()).get(key)


def remember_speed(key: str, fps: float) -> None:
    """Keep a measurement; a cache folder that cannot be written costs a log line, not the film."""
    if not (math.isfinite(fps) and fps > 0):
        return
    path = _file()
    speeds = _read(path)
    speeds.pop(key, None)
    speeds[key] = fps
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, dict(list(speeds.items())[-KEPT:]))
    except OSError as error:
        log.warning("speed not remembered: %s", error)


def _file() -> Path:
    return cache_dir("speeds") / "speeds.json"


def _read(path: Path) -> dict[str, float]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(key): float(value) for key, value in found.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        log.warning("remembered speeds dropped: %s", error)
        return {}
