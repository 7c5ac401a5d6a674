"""Events that are made from the plan alone."""

from __future__ import annotations

from pathlib import Path

from .events import Reused, SegmentDone, Started
from .reuse import Reuse
from .settings import RunSpec
from .take import Run


def film_frames(spec: RunSpec, chunks: int) -> int:
    """Pictures of the film's first `chunks` chunks, those of a start image included."""
    timing = spec.plan.timing
    return timing.pictures(chunks) + (spec.lead * timing.time_stride if chunks else 0)


def whole_segments(spec: RunSpec, chunks: int) -> int:
    """Segments that lie wholly in the film's first `chunks` chunks."""
    return sum(segment.first_chunk + segment.chunks <= chunks for segment in spec.plan.segments)


def shot_of(spec: RunSpec, number: int) -> int:
    """Number of the shot, from 0, that segment `number` of the plan is in; -1 for no segment."""
    return sum(segment.verb != "then" for segment in spec.plan.segments[: number + 1]) - 1


def started(spec: RunSpec, run: Run, stop: int) -> Started:
    """The first event of a film of `stop` chunks."""
    frames, segments = film_frames(spec, stop), whole_segments(spec, stop)
    return Started(
        folder=run.folder,
        path=run.film,
        chunks=stop,
        frames=frames,
        seconds=frames / spec.plan.timing.fps,
        segments=segments,
        shots=shot_of(spec, segments - 1) + 1,
    )


def reused(spec: RunSpec, reuse: Reuse) -> Reused:
    """What the Take holds of the film."""
    chunks = len(reuse.chunks)
    return Reused(whole_segments(spec, chunks), chunks, film_frames(spec, chunks), reuse.changed)


def segment_done(spec: RunSpec, number: int, film: Path) -> SegmentDone:
    """The event of segment `number` of the plan, whose pictures are all in `film`."""
    plan = spec.plan
    segment = plan.segments[number]
    start = film_frames(spec, segment.first_chunk)
    return SegmentDone(
        segment=number,
        total=len(plan.segments),
        verb=segment.verb,
        prompt=segment.prompt,
        start_frame=start,
        frames=film_frames(spec, segment.first_chunk + segment.chunks) - start,
        path=film,
    )
