"""Are the cuts of a film where its storyboard has them? What PySceneDetect finds against what is written."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from ...errors import GroundedError

SHORTEST = 6
"""Frames between two cuts, at least: the shortest segment is longer."""
EXTRA = "pip install 'grounded-forcing[scenedetect]'"


def detected_cuts(path: Path) -> list[int]:
    """First frames of the shots that PySceneDetect's adaptive detector sees, without the film's own first.

    Raises GroundedError: it is not installed, or cannot read the film.
    """
    try:
        from scenedetect import (  # pyright: ignore[reportMissingImports]  # an extra
            AdaptiveDetector,
            VideoOpenFailure,
            detect,
        )
    except ImportError as error:
        raise GroundedError(f"PySceneDetect is not here ({error})", EXTRA) from error
    logging.getLogger("pyscenedetect").setLevel(logging.WARNING)  # it tells of every film
    try:
        scenes = detect(str(path), AdaptiveDetector(min_scene_len=SHORTEST))
    except (VideoOpenFailure, OSError) as error:
        raise GroundedError(f"PySceneDetect cannot read {path.name}: {error}", "save it as mp4") from error
    return [start.frame_num for start, _ in scenes[1:]]


def match_cuts(written: Sequence[int], found: Sequence[int], within: int) -> dict[str, list[int]]:
    """`seen`, `missed` (of those written) and `extra` (of those found): each cut goes with the nearest one that is
    free and at most `within` frames away."""
    pairs = sorted((abs(a - b), a, b) for a in written for b in found if abs(a - b) <= within)
    seen: dict[int, int] = {}
    for _, a, b in pairs:
        if a not in seen and b not in seen.values():
            seen[a] = b
    return {
        "seen": sorted(seen),
        "missed": [a for a in written if a not in seen],
        "extra": [b for b in found if b not in seen.values()],
    }
