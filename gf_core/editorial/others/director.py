"""Timelines of LTX Director (WhatDreamsCost-ComfyUI): what its editor saves, or what is in its node's `timeline_data`.

Its prompts hold for stretches of one take, so each goes on from the one before. A gap belongs to the prompt before it,
and before the first one to that; what lies outside the part that it would render is cut off: as its own node has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...foreign import known_values
from ...timeline.storyboard import DEFAULT_FPS
from .told import Shot, Told, check_frames, check_speed, seconds_of, some

PROGRAM = "an LTX Director timeline"
FPS = 24.0
"""Of its node, where the file says none."""


@dataclass(frozen=True)
class _Segment:
    start: float = 0
    length: float = 0
    prompt: str = ""
    type: str = "image"


@dataclass(frozen=True)
class _Timeline:
    global_prompt: str = ""
    retakeMode: bool = False
    normalStartFrame: float = 0
    normalDurationFrames: float | None = None
    segments: tuple[dict, ...] = ()
    motionSegments: tuple[dict, ...] = ()
    audioSegments: tuple[dict, ...] = ()


@dataclass(frozen=True)
class _Settings:
    frame_rate: float = FPS
    frameRate: float | None = None
    """As older versions had it."""


def read_timeline(whole: dict[str, Any]) -> Told:
    """The timeline; raises ValueError for values of other types."""
    said = whole.get("timeline", whole)
    timeline = known_values(_Timeline(), said)
    if not timeline.global_prompt and said is not whole:
        timeline = known_values(timeline, {"global_prompt": whole.get("global_prompt", "")})
    settings = known_values(_Settings(), whole.get("settings", {}))
    segments = [known_values(_Segment(), segment) for segment in timeline.segments]
    fps = settings.frameRate or settings.frame_rate
    check_speed(fps)
    shots, outside = _shots(sorted(segments, key=lambda segment: segment.start), timeline, fps)
    pictures = sum(segment.type != "text" for segment in segments)
    left = [
        some(pictures, "picture or video", "pictures and videos"),
        some(len(timeline.motionSegments), "motion guide"),
        some(len(timeline.audioSegments), "piece of sound", "pieces of sound"),
        some(outside, "segment outside of the rendered part", "segments outside of the rendered part"),
        "its retake" if timeline.retakeMode else "",
        f"its {fps:g} pictures a second" if fps != DEFAULT_FPS else "",
    ]
    return Told(PROGRAM, shots, style=timeline.global_prompt, left=left)


def _shots(segments: list[_Segment], timeline: _Timeline, fps: float) -> tuple[list[Shot], int]:
    """The stretches between the beginnings of prompts, and how many segments the rendered part leaves out."""
    begin, frames = timeline.normalStartFrame, timeline.normalDurationFrames
    check_frames(begin, frames or 0, *(place for one in segments for place in (one.start, one.length)))
    ends = [segment.start + segment.length for segment in segments]
    end = max(ends, default=0) if frames is None else begin + frames
    seen = [segment for segment, stop in zip(segments, ends) if stop > begin and segment.start < end]
    edges = [begin, *(max(segment.start, begin) for segment in seen[1:]), end]
    shots = [
        Shot(segment.prompt, seconds_of(stop - start, fps))
        for segment, start, stop in zip(seen, edges, edges[1:])
    ]
    return shots, len(segments) - len(seen)
