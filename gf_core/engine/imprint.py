"""What a finished film says about itself: its storyboard, settings and seeds as metadata, its segments as chapters.

Everything is read from the run's folder, so a film can be placed long after it was rendered.
"""

from __future__ import annotations

from functools import cache
from importlib import metadata as packages
from typing import Any

from ..config import pictures_of
from ..errors import TakeError
from ..take.folder import Run
from ..video import Chapter
from .recorded import comment

VERSIONED = ("torch", "av", "numpy", "safetensors", "einops", "diffusers", "transformers")
"""Packages whose versions can matter to a picture."""


def film_metadata(run: Run, title: str = "") -> dict[str, Any]:
    """What goes into the film of `run`: `timeline` as it was rendered, and all under `grounded` to make it again.

    `grounded` holds `settings` (the run's settings.json: model and its hash, memory, sampler, size, seeds),
    `versions`, and `start_image` (the film began from a picture or a video). Add `prompt` and `workflow` for a graph.

    Raises TakeError: the run's folder is damaged.
    """
    settings = run.read_settings()
    facts = {
        "settings": settings,
        "versions": dict(installed_versions()),
        "start_image": _lead_frames(run, settings) > 0,
    }
    timeline = run.read_timeline()
    own = {"comment": comment(timeline), "timeline": timeline, "grounded": facts}
    return {"title": title, **own} if title else own


def film_chapters(run: Run) -> list[Chapter]:
    """A chapter per segment that is in the film, exact to the frame. Raises TakeError: the run's folder is damaged."""
    fps = run.read_settings()["video"]["fps"]
    return [
        Chapter(first / fps, end / fps, _title(number, segment))
        for number, segment, first, end in filmed_segments(run)
    ]


def filmed_segments(run: Run) -> list[tuple[int, dict[str, Any], int, int]]:
    """Every segment that has at least one chunk in the film: its number in the plan, what the run's settings say of it,
    its first picture, and the one behind its last.

    Raises TakeError: the run's folder is damaged.
    """
    segments = dict(enumerate(run.read_settings()["segments"]))
    spans: dict[int, tuple[int, int]] = {}
    try:
        for record in run.committed():
            first, number = record["first_frame"], record["segment"]
            spans[number] = (spans.get(number, (first,))[0], first + record["frames"])
        return [(number, segments[number], *span) for number, span in sorted(spans.items())]
    except KeyError as error:
        raise TakeError(f"the journal of {run.folder} is of another film", "render again") from error


@cache
def installed_versions() -> dict[str, str]:
    """Versions of this program and of the packages under it; looked up once."""
    found = {}
    for name in ("grounded-forcing", *VERSIONED):
        try:
            found[name] = packages.version(name)
        except packages.PackageNotFoundError:
            # The program itself, when it runs from a folder that is not installed.
            found[name] = "not installed"
    return found


def said_verb(segment: dict[str, Any]) -> str:
    """The verb of a segment of a run's settings as it is written: `cut`, `back to 2`."""
    back = segment.get("back")
    return segment["verb"] if back is None else f"back to {back}"


def _title(number: int, segment: dict[str, Any]) -> str:
    said = said_verb(segment)
    verb = "" if said == "start" else f"{said}: "
    return f"{number + 1}. {verb}{segment['prompt']}"


def _lead_frames(run: Run, settings: dict[str, Any]) -> int:
    """Pictures of a start: what chunk 0 holds beyond its own."""
    own = settings["sample"].get("first_chunk_frames") or settings["memory"]["chunk"]
    first = next(iter(run.committed()), None)
    return 0 if first is None else max(0, first["frames"] - pictures_of(own))
