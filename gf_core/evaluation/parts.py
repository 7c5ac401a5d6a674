"""The segments of a film in frames: as it carries them, as its Take has them, or as a storyboard plans them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..engine.imprint import film_chapters
from ..engine.recorded import BUILTIN, Recorded, read_recorded
from ..errors import TakeError
from ..take.folder import Run
from ..timeline import Timing, make_plan, parse
from ..video import Chapter, FilmInfo, probe, read_chapters
from .measures.metrics import Span


@dataclass(frozen=True)
class Part:
    """A segment in the film, in frames."""

    start: int
    stop: int
    verb: str
    prompt: str
    number: int | None = None
    """In the storyboard, where that is said."""
    back: int | None = None
    """Number of the segment that it goes back to."""


def in_seconds(part: Part | Span, fps: float) -> dict[str, Any]:
    """What results say of a segment: verb, prompt, and where it lies in the film."""
    start, seconds = part.start / fps, (part.stop - part.start) / fps
    return {"verb": part.verb, "prompt": part.prompt, "start_seconds": start, "seconds": seconds}


def recorded(path: str | Path) -> Recorded | None:
    """How the film at `path` was made; None where it does not say."""
    try:
        return read_recorded(path)
    except TakeError:
        return None


def film_parts(path: str | Path) -> list[Part]:
    """The segments of a film as it carries them; a film that carries none is one segment."""
    return told_parts(path)[0]


def told_parts(path: str | Path) -> tuple[list[Part], str]:
    """As `film_parts`, and why the film is one segment where it tells of none; empty where it does tell."""
    info = probe(path)
    try:
        parts = _placed(read_recorded(path).segments, read_chapters(path), info)
        why = "its chapters, which say where its segments lie, are gone"
    except TakeError as error:
        # Without the film's name, which stands above, so that films of one reason are told in one line.
        parts, why = [], error.message.replace(Path(path).name, "it")
    return (parts, "") if parts else ([Part(0, info.frames, "start", "")], f"taken as one, as {why}")


def run_parts(run: Run) -> tuple[list[Part], bool]:
    """The segments of a Take's run, and whether they are the built-in model's.

    Raises TakeError: its folder is damaged, or it has no film yet.
    """
    settings = run.read_settings()
    parts = _placed(settings["segments"], film_chapters(run), probe(run.film))
    return parts, settings["model"]["name"] in BUILTIN


def _placed(segments: Sequence[dict[str, Any]], chapters: Sequence[Chapter], info: FilmInfo) -> list[Part]:
    """The segments that are in the film; another program may have cut it, and left the chapters as they were."""
    edges = [min(round(chapter.start_seconds * info.fps), info.frames) for chapter in chapters]
    stops = [*edges[1:], info.frames]
    return [
        Part(start, stop, segment["verb"], segment["prompt"], *map(segment.get, ("number", "back")))
        for segment, start, stop in zip(segments, edges, stops)
        if 0 <= start < stop
    ]


def planned_parts(
    storyboard_text: str, frames: int | None = None, timing: Timing | None = None
) -> tuple[list[Part], float]:
    """The segments of a storyboard, and the film's fps.

    frames: length of the film at hand; one that was stopped early has the segments that it got to.
    """
    board = parse(storyboard_text)
    plan = make_plan(board, timing)
    last = plan.frames if frames is None else frames
    parts = [
        Part(
            part.start_frame,
            min(part.start_frame + part.frames, last),
            part.verb,
            part.prompt,
            number,
            part.back,
        )
        for number, part in enumerate(plan.segments)
        if part.start_frame < last
    ]
    return parts, float(board.fps)


def start_pictures(path: str | Path, made: Recorded, timing: Timing) -> int:
    """Pictures at the beginning of the film that are those of its start, a picture or a video, as decoded."""
    if not made.start_image:
        return 0
    end, stride = film_parts(path)[0].stop, timing.time_stride
    if made.start is not None:
        given = made.start.latent_frames(stride) * stride
    else:  # one that is no file, from ComfyUI: what the first segment has beyond its chunks
        chunks = made.segments[0].get("chunks") if made.segments else None
        given = end - timing.pictures(chunks) if isinstance(chunks, int) else 0
    return given if 0 < given < end else 0  # another program may have cut the film
