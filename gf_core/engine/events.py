"""What a session tells while it runs: frozen, typed events, small enough to be sent anywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import numpy as np

if TYPE_CHECKING:
    from ..take.folder import Run
    from ..take.reuse import Reuse
    from .film import Film


@dataclass(frozen=True)
class Started:
    """Sent once, before the first denoising step."""

    folder: Path
    """Run folder of this film inside the Take."""
    path: Path
    """The growing film; it plays from the first `ChunkDone` on."""
    chunks: int
    """Chunks of the film, up to where it is to stop."""
    frames: int
    """Pixel frames of them."""
    seconds: float
    """Seconds of them."""
    segments: int
    """Segments of them."""
    shots: int
    """Shots of them: segments that `then:` joins count as one."""

    @classmethod
    def of(cls, film: Film, run: Run, stop: int) -> Started:
        """The first event of a film of `stop` chunks that is made in `run`."""
        frames, segments = film.frames(stop), film.whole_segments(stop)
        seconds, shots = frames / film.timing.fps, film.shot_of(segments - 1) + 1
        return cls(run.folder, run.film, stop, frames, seconds, segments, shots)


@dataclass(frozen=True)
class Reused:
    """Sent after `Started` when an earlier run of the Take holds part of the film, or it is known why not."""

    segments: int
    """Whole segments that need no sampling; each gets its `SegmentDone` next, once its pictures are there."""
    chunks: int
    """Chunks that need no sampling."""
    frames: int
    """Pixel frames of these chunks."""
    changed: str
    """Why the rest has to be made, in words; empty when all is there."""

    @classmethod
    def of(cls, film: Film, reuse: Reuse) -> Reused:
        """What the Take holds of the film."""
        chunks = len(reuse.chunks)
        return cls(film.whole_segments(chunks), chunks, film.frames(chunks), reuse.changed)


@dataclass(frozen=True)
class Replayed:
    """A stored chunk was run again to bring the sampler or the decoder to where the film goes on."""

    index: int
    """Chunk, from 0."""
    upto: int
    """The replay ends in front of this chunk."""


@dataclass(frozen=True)
class Pulse:
    """Nothing to tell: a listener may stop the render here, by raising something.

    Sent before every call of the network, and every 0.1 s while the sampler waits for decoder and encoder, or, before
    `Started`, the session for its turn.
    """


@dataclass(frozen=True)
class StepDone:
    """A denoising step ended."""

    index: int
    """Chunk being denoised, from 0."""
    total: int
    """Chunks in the film."""
    segment: int
    """Number of the chunk's segment in the plan, from 0."""
    step: int
    """Steps done in this chunk, from 1."""
    steps: int
    """Steps in a chunk."""
    share: float
    """How much of the film is made, 0 to 1: the one number for whatever shows it. It only grows."""


@dataclass(frozen=True)
class ChunkDone:
    """A chunk is safe: its latents and frames are on disk and the journal says so."""

    index: int
    """Chunk, from 0."""
    total: int
    """Chunks in the film."""
    segment: int
    """Number of its segment in the plan, from 0."""
    shot: int
    """Number of its shot, from 0."""
    frames: int
    """Pixel frames on disk so far."""
    film_seconds: float
    """Seconds of film on disk so far."""
    fps: float
    """Pixel frames per wall second, decode and encode included; after the first chunk, which is slower, as such films
    were made before, where that is known."""
    seconds_left: float
    """Wall seconds to the end at this speed."""
    share: float
    """As in `StepDone`."""
    anchor: dict[str, Any] | None = None
    """What the long-term memory weighed for this chunk (`memory.policies.Evaluation`), if anything: of several the
    last that took a place, or the last."""


@dataclass(frozen=True)
class SegmentDone:
    """The last chunk of a segment is on disk."""

    segment: int
    """Number of the segment in the plan, from 0."""
    total: int
    """Segments in the plan."""
    verb: str
    """start, then, cut, back or scene."""
    prompt: str
    """The full prompt."""
    start_frame: int
    """First pixel frame of the segment in the film."""
    frames: int
    """Pixel frames of the segment."""
    path: Path
    """The growing film."""

    @classmethod
    def of(cls, film: Film, number: int, path: Path) -> SegmentDone:
        """The event of segment `number` of the plan, whose pictures are all in the film at `path`."""
        segment, total = film.plan.segments[number], len(film.plan.segments)
        start = film.frames(segment.first_chunk)
        frames = film.frames(segment.end) - start
        return cls(number, total, segment.verb, segment.prompt, start, frames, path)


@dataclass(frozen=True)
class Preview:
    """Small pictures of a chunk that is decoded; its `ChunkDone` follows when it is on the disk."""

    index: int
    """Chunk, from 0."""
    segment: int
    """Number of its segment in the plan, from 0."""
    frames: np.ndarray = field(repr=False)
    """uint8 [t h w 3]; every frame of the chunk, at most `video.pixels.PREVIEW_SIDE` pixels on the longer side."""


@dataclass(frozen=True)
class Finished:
    """The last event: everything is closed and the lock on the run is not needed any more."""

    path: Path
    """The film; whole, or up to the last committed chunk after a cancel. With no frames in it, it goes with the run
    when the Take is closed."""
    frames: int
    """Pixel frames in it."""
    seconds: float
    """Seconds of film in it."""
    cancelled: bool
    """True when `cancel()` ended it early."""
    report: dict[str, Any] = field(repr=False, default_factory=dict)
    """What `report.json` holds: sizes, times of every stage, speed, memory."""


Event = Union[Started, Reused, Replayed, StepDone, Pulse, ChunkDone, SegmentDone, Preview, Finished]  # noqa: UP007 (3.10 at run time)

Emit = Callable[[Event], None]
"""Who is told."""
