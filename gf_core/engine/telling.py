"""Events that are made from the plan alone."""

from __future__ import annotations

from pathlib import Path

from ..take.folder import Run
from ..take.reuse import Reuse
from .events import Reused, SegmentDone, Started
from .film import Film


def whole_segments(film: Film, chunks: int) -> int:
    """Segments that lie wholly in the film's first `chunks` chunks."""
    return sum(segment.first_chunk + segment.chunks <= chunks for segment in film.plan.segments)


def shot_of(film: Film, number: int) -> int:
    """Number of the shot, from 0, that segment `number` of the plan is in; -1 for no segment."""
    return sum(segment.verb != "then" for segment in film.plan.segments[: number + 1]) - 1


def started(film: Film, run: Run, stop: int) -> Started:
    """The first event of a film of `stop` chunks."""
    frames, segments = film.frames(stop), whole_segments(film, stop)
    return Started(
        folder=run.folder,
        path=run.film,
        chunks=stop,
        frames=frames,
        seconds=frames / film.plan.timing.fps,
        segments=segments,
        shots=shot_of(film, segments - 1) + 1,
    )


def reused(film: Film, reuse: Reuse) -> Reused:
    """What the Take holds of the film."""
    chunks = len(reuse.chunks)
    return Reused(whole_segments(film, chunks), chunks, film.frames(chunks), reuse.changed)


def segment_done(film: Film, number: int, path: Path) -> SegmentDone:
    """The event of segment `number` of the plan, whose pictures are all in the file at `path`."""
    plan = film.plan
    segment = plan.segments[number]
    start = film.frames(segment.first_chunk)
    return SegmentDone(
        segment=number,
        total=len(plan.segments),
        verb=segment.verb,
        prompt=segment.prompt,
        start_frame=start,
        frames=film.frames(segment.first_chunk + segment.chunks) - start,
        path=path,
    )
