"""Seconds to chunks: where a segment begins, its seed, and a key that changes whenever its pictures can.

Pure arithmetic. A chunk is what is generated at a time. The first latent frame of the film decodes to one
picture, every later one to `time_stride` pictures, so chunk 0 is a little shorter than the others.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

from ..config import MAX_SEED, Recipe, pictures_of
from ..errors import GroundedError, StoryboardError
from ..words import exact_rate
from .lengths import exactly
from .storyboard import DEFAULT_FPS, Segment, Storyboard
from .verbs import VERBS, Verb


@dataclass(frozen=True)
class Timing:
    """How time is cut into chunks."""

    fps: int | float = DEFAULT_FPS
    """Pictures per second."""
    chunk_frames: int = 3
    """Latent frames in a chunk."""
    time_stride: int = 4
    """Pictures per latent frame."""
    first_chunk_frames: int | None = None
    """Latent frames of the film's first chunk when they differ."""
    latency: int = 0
    """Chunks of the same segment, behind a chunk, whose number decides its pictures too: they are made together."""

    def __post_init__(self) -> None:
        """Raises StoryboardError for a speed at which no time passes."""
        if not 0 < self.fps < math.inf:
            raise StoryboardError(
                f"a film of {self.fps!r} pictures a second", "give fps as 16, 23.976 or the like"
            )

    @classmethod
    def of(cls, recipe: Recipe, time_stride: int = 4) -> Timing:
        """That of films of `recipe`. time_stride: of the codec; by default Wan's."""
        first = recipe.sample.first_chunk_frames
        return cls(recipe.video.fps, recipe.memory.chunk, time_stride, first, recipe.latency)

    @property
    def chunk_pictures(self) -> int:
        """Pictures in every chunk but the first."""
        return self.chunk_frames * self.time_stride

    def latent_frames(self, chunk: int) -> int:
        """Latent frames of chunk number `chunk` of the film."""
        return (self.first_chunk_frames if chunk == 0 else None) or self.chunk_frames

    def pictures(self, chunks: int, lead: int = 0) -> int:
        """Pictures in the first `chunks` chunks of a film; lead: latent frames of its start, which lie in chunk 0."""
        if chunks <= 0:
            return 0
        first = pictures_of(lead + self.latent_frames(0), self.time_stride)
        return first + (chunks - 1) * self.chunk_pictures

    @cached_property
    def exact_fps(self) -> Fraction:
        """Pictures per second, as the fraction that a film is stamped with."""
        return exact_rate(self.fps)

    def seconds(self, frames: int) -> float:
        """How long so many pictures are."""
        return float(frames / self.exact_fps)

    def nearest_chunks(self, seconds: Fraction) -> int:
        """How many chunks from the start of the film come closest to `seconds` (a tie takes the longer)."""
        # Behind the first chunk, which has a length of its own, all are alike.
        return _round_half_up((seconds * self.exact_fps - self.pictures(1)) / self.chunk_pictures) + 1


@dataclass(frozen=True)
class PlannedSegment:
    """One segment with its place in the film. Frames are pictures; chunks count from the film's start."""

    index: int
    """Its place in `Storyboard.segments` (muted ones are counted, so the number is the text's)."""
    verb: Verb
    prompt: str
    """Expanded: cast and style are in it."""
    seed: int
    timing: Timing
    first_chunk: int
    chunks: int
    asked_seconds: float
    stem: str
    """What can change the pictures of its n-th chunk: `key` without its own length."""
    blend_chunks: int
    """Chunks over which the text moves from the prompt before; 0 is at once."""
    recache: float | None
    back: int | None = None
    """For `back`: number in `Plan.segments` of the one whose memory, as it was at its end, is recalled."""
    motion: bool = False
    """For `back`: recent frames are recalled too."""
    pictures: tuple[str, ...] = ()
    """Files of the cast's pictures that the memory is given at its beginning: of those who appear for the first time in
    the film or since a scene."""

    @property
    def end(self) -> int:
        """The chunk behind its last."""
        return self.first_chunk + self.chunks

    @property
    def start_frame(self) -> int:
        return self.timing.pictures(self.first_chunk)

    @property
    def frames(self) -> int:
        return self.timing.pictures(self.end) - self.start_frame

    @property
    def start_seconds(self) -> float:
        return self.timing.seconds(self.start_frame)

    @property
    def seconds(self) -> float:
        """Snapped length."""
        return self.timing.seconds(self.frames)

    @cached_property
    def key(self) -> str:
        """Hash of all that can change a picture of this segment or an earlier one, its length included."""
        return _hash(self.stem, {"chunks": self.chunks})

    @property
    def last_key(self) -> str:
        """Key of its last chunk."""
        return self.chunk_key(self.chunks - 1)

    def chunk_key(self, chunk: int) -> str:
        """Key of the segment's `chunk`-th chunk (from 0).

        Lengthening the segment leaves it as it is, unless chunks are made together and those behind it are too few.
        """
        behind = self.chunks - 1 - chunk
        return _hash(
            self.stem, {"chunk": chunk, **({"behind": behind} if behind < self.timing.latency else {})}
        )


@dataclass(frozen=True)
class Plan:
    """A film in chunks."""

    timing: Timing
    segments: tuple[PlannedSegment, ...]

    @property
    def chunks(self) -> int:
        return self.segments[-1].end

    @property
    def frames(self) -> int:
        """Pictures in the film."""
        return self.timing.pictures(self.chunks)

    @property
    def seconds(self) -> float:
        return self.timing.seconds(self.frames)

    @cached_property
    def places(self) -> tuple[tuple[int, int], ...]:
        """(number of its segment in `segments`, its number in the segment) of every chunk of the film."""
        return tuple((number, chunk) for number, s in enumerate(self.segments) for chunk in range(s.chunks))

    @cached_property
    def recalled(self) -> dict[int, int]:
        """Number of each segment whose memory is recalled -> that of the last one that does."""
        return {s.back: number for number, s in enumerate(self.segments) if s.back is not None}

    @cached_property
    def apart(self) -> frozenset[int]:
        """Chunks that know nothing of the one in front of them: the first of a scene, and of going back farther."""
        return frozenset(
            s.first_chunk
            for number, s in enumerate(self.segments)
            if number and (s.verb == "scene" or s.back not in (None, number - 1))
        )

    @cached_property
    def chunk_keys(self) -> tuple[str, ...]:
        """Key of every chunk of the film."""
        return tuple(self.segments[number].chunk_key(chunk) for number, chunk in self.places)

    def chunks_until(self, segment: int | None) -> int:
        """Chunks up to the end of `segment` of the storyboard (from 1, muted ones counted); all for 0 or None.

        Raises GroundedError: there is nothing up to that segment.
        """
        if segment is not None and (not isinstance(segment, int) or segment < 0):
            raise GroundedError(f"the film cannot stop after segment {segment!r}", "give a whole number")
        if not segment:
            return self.chunks
        inside = [planned for planned in self.segments if planned.index < segment]
        if not inside:
            raise GroundedError(
                f"the film cannot stop after segment {segment}: nothing comes up to there",
                f"stop after segment {self.segments[0].index + 1} or a later one",
            )
        return inside[-1].end


def make_plan(
    board: Storyboard,
    timing: Timing | None = None,
    base_key: str = "",
    prints: Mapping[str, str] | None = None,
) -> Plan:
    """Plan `board`; the default timing is the paper's at the storyboard's own fps.

    `base_key` stands for all that is not in the text (model files, sampler, memory, size, kernel class), and
    `prints` tells for the file of each picture in the cast what is seen in it (None: their names do).
    Lengths snap to whole chunks, at least one, against the running total: no error adds up, and the film
    stays within half a chunk of what was asked as long as no segment is shorter than a chunk. A muted segment
    takes no time; if it was a cut or a scene, the next segment cuts in its place.
    """
    timing = timing or Timing(fps=board.fps)
    geometry = [timing.first_chunk_frames, timing.chunk_frames, timing.time_stride]
    key = _hash(base_key, {"geometry": geometry})
    planned: list[PlannedSegment] = []
    asked, end = Fraction(0), 0
    muted: Segment | None = None
    places: dict[int, int] = {}  # number of a segment in the text -> in the plan
    uses: Counter[str] = Counter()
    seen, known = set[str](), list[set[str]]()  # pictures in memory, and those at the end of every segment
    for index, segment in enumerate(board.segments):
        prompt = board.expanded(index)
        # Counted where it is muted, too: muting one leaves the seeds of those with its words alone.
        uses[prompt] += 1
        segment = _after(muted, segment)
        if segment.mute:
            muted = segment
            continue
        verb, muted = "start" if not planned else segment.verb, None
        asked += exactly(segment.seconds)
        first, end = end, max(end + 1, timing.nearest_chunks(asked))
        own = derive_seed(board.seed or 0, prompt, uses[prompt] - 1)
        seed = own if segment.seed is None else segment.seed
        if verb == "scene":
            seen = set()
        elif verb == "back" and segment.back in places:  # what was known there is known again
            seen = known[places[segment.back]]
        new = {file: (prints or {}).get(file, file) for file in board.pictured(index) if file not in seen}
        seen = seen | new.keys()
        known.append(seen)
        place = replace(segment, verb=verb, prompt=prompt, seed=seed)
        planned.append(_place(index, place, timing, range(first, end), key, places, new))
        places[index + 1] = len(places)
        key = planned[-1].key
    if not planned:
        fix = "remove 'mute' from at least one segment"
        raise StoryboardError("every segment is muted", fix, line=board.segments[0].line)
    return Plan(timing, tuple(planned))


def _after(muted: Segment | None, segment: Segment) -> Segment:
    """`segment` with the verb that it has behind a muted one: what it would have continued is not there."""
    if muted is None or VERBS[muted.verb].force <= VERBS[segment.verb].force:
        return segment
    goes_on = muted.motion and segment.verb == "then"
    return replace(segment, verb=muted.verb, back=muted.back, motion=goes_on)


def derive_seed(film_seed: int, prompt: str, occurrence: int) -> int:
    """Seed of a segment without its own: from the film's seed, its expanded prompt, and earlier uses of it.

    It does not depend on the segment's place: inserting, moving, muting or lengthening segments with other
    prompts leaves it alone. It is small enough to be written back as `seed N`.
    """
    digest = hashlib.sha256(json.dumps(["seed", film_seed, prompt, occurrence]).encode()).digest()
    return int.from_bytes(digest[:8], "big") & MAX_SEED


def _place(
    index: int,
    segment: Segment,
    timing: Timing,
    chunks: range,
    previous_key: str,
    places: dict[int, int],
    pictures: dict[str, str],
) -> PlannedSegment:
    """`segment`, with its final verb, prompt and seed, on its `chunks` of the film; `pictures`, file to print, at its
    beginning."""
    verb, prompt, seed = segment.verb, segment.prompt, segment.seed or 0
    recache = segment.recache if verb == "then" else None
    blend = _blend_chunks(segment, timing, len(chunks)) if verb == "then" else 0
    facts: dict[str, object] = {
        "verb": verb,
        "prompt": prompt,
        "seed": seed,
        "recache": recache,
        "blend": blend,
    }
    back = places.get(segment.back or 0) if verb == "back" else None
    if verb == "back" and back is None:
        raise StoryboardError(
            f"segment {index + 1} cannot go back to segment {segment.back}",
            "choose one that is seen before it",
            line=segment.line,
        )
    if back is not None:
        facts |= {"back": back, "motion": segment.motion}
    if pictures:
        facts["pictures"] = list(pictures.values())
    # Segments could once name LoRAs. The list, now always empty, stays in the hash: films made before go on.
    stem = _hash(previous_key, {**facts, "loras": []})
    return PlannedSegment(
        index=index,
        verb=verb,
        prompt=prompt,
        seed=seed,
        timing=timing,
        first_chunk=chunks.start,
        chunks=len(chunks),
        asked_seconds=segment.seconds,
        stem=stem,
        blend_chunks=blend,
        recache=recache,
        back=back,
        motion=back is not None and segment.motion,
        pictures=tuple(pictures),
    )


def _blend_chunks(segment: Segment, timing: Timing, chunks: int) -> int:
    if segment.blend is None:
        return 0
    wanted = _round_half_up(exactly(segment.blend) * timing.exact_fps / timing.chunk_pictures)
    return min(max(1, wanted), chunks)


def _round_half_up(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))


def _hash(previous: str, facts: dict[str, object]) -> str:
    text = json.dumps([previous, facts], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
