"""A storyboard as an OpenTimelineIO edit: one clip per segment, all that the text says in the clip's metadata.

What an editor did to the cut is taken over when it is read back: order, deleted and disabled clips, changed lengths,
clips that were added. Without such changes the storyboard comes back equal.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import GroundedError, StoryboardError
from ..foreign import read_json
from ..timeline import Segment, Storyboard
from ..timeline.storyboard import DEFAULT_FPS, MAX_SECONDS

log = logging.getLogger("grounded")

KEY = "grounded"
"""Where our facts stand in the metadata of timeline and clips."""
FORMATS = {".otio": "otio_json", ".edl": "cmx_3600", ".fcpxml": "fcpx_xml"}
"""Adapter by suffix; all but the first are plugins of OpenTimelineIO."""
PLAIN_RATE = 24
"""EDL and Final Cut XML know the rates of cinema and television only; other films are told in frames of this one."""
PLAIN_RATES = (24, 25, 30, 48, 50, 60)


@dataclass(frozen=True)
class Span:
    """Where a segment lies in the film, in frames."""

    index: int
    """Its place in `Storyboard.segments`."""
    start: int
    frames: int


def write_edit(
    board: Storyboard, spans: Sequence[Span], path: str | Path, film: str | Path | None = None
) -> None:
    """Write `board` as an edit, in the format that the suffix of `path` names.

    Args:
        spans: the segments that are in the film, in film order; muted ones are not among them.
        film: the film that the clips point into; None leaves them without media.

    Raises:
        GroundedError: OpenTimelineIO, or its plugin for this format, is not installed; or the format is unknown.
    """
    otio, path = _library(), Path(path)
    adapter = _adapter(otio, path)
    rate = board.fps
    if adapter != "otio_json" and rate not in PLAIN_RATES:
        told = "%s has no %d frames a second: times are rounded to frames of %d"
        log.info(told, path.suffix, rate, PLAIN_RATE)
        rate = PLAIN_RATE
    timeline = _timeline(otio, board, spans, path.stem, film, rate)
    path.parent.mkdir(parents=True, exist_ok=True)
    otio.adapters.write_to_file(timeline, str(path), adapter_name=adapter)


def read_edit(path: str | Path) -> Storyboard:
    """The storyboard of an edit.

    Raises:
        GroundedError: not readable, without a clip, or OpenTimelineIO or its plugin is missing.
        StoryboardError: an edit that no storyboard can say.
    """
    otio, path = _library(), Path(path)
    if not path.is_file():
        raise GroundedError(f"there is no edit {path}", "check the name and the folder")
    adapter = _adapter(otio, path)
    try:
        if adapter == FORMATS[".otio"]:
            # OpenTimelineIO ends the whole program over text that is nested too deeply.
            read_json(path.read_bytes())
        found = otio.adapters.read_from_file(str(path), adapter_name=adapter)
    except Exception as error:  # plugins raise what they like
        raise GroundedError(
            f"{path.name} cannot be read as an edit: {error}", "export it as .otio"
        ) from error
    if isinstance(found, otio.schema.SerializableCollection):
        found = next((item for item in found if isinstance(item, otio.schema.Timeline)), None)
    if not isinstance(found, otio.schema.Timeline):
        raise GroundedError(f"{path.name} holds no timeline", "export the whole timeline")
    return _storyboard(found, path.name)


def _library() -> ModuleType:
    try:
        import opentimelineio
    except ModuleNotFoundError as error:
        raise GroundedError(
            "edits need OpenTimelineIO, which is not installed", "pip install opentimelineio"
        ) from error
    return opentimelineio


def _adapter(otio: ModuleType, path: Path) -> str:
    name = FORMATS.get(path.suffix.lower())
    if name is None:
        raise GroundedError(f"{path.name} is no edit that is known here", f"use one of {', '.join(FORMATS)}")
    if name not in otio.adapters.available_adapter_names():
        plugin = {"cmx_3600": "otio-cmx3600-adapter", "fcpx_xml": "otio-fcpx-xml-adapter"}[name]
        raise GroundedError(f"{path.suffix} needs a plugin of OpenTimelineIO", f"pip install {plugin}")
    return name


def _timeline(
    otio: ModuleType, board: Storyboard, spans: Sequence[Span], name: str, film: str | Path | None, rate: int
) -> Any:
    """The edit with times in frames of 1/`rate` s; ends are rounded, so that clips still meet."""

    def time(frames: int) -> Any:
        return otio.opentime.RationalTime(round(frames * rate / board.fps), rate)

    def span(start: int, frames: int) -> Any:
        return otio.opentime.TimeRange(time(start), time(start + frames) - time(start))

    timeline = otio.schema.Timeline(name, global_start_time=time(0))
    track = otio.schema.Track("film", kind=otio.schema.TrackKind.Video)
    timeline.tracks.append(track)
    total = max((item.start + item.frames for item in spans), default=0)
    shown = {item.index for item in spans}
    shot, muted = 0, _left_out(board, shown, -1)
    timeline.metadata[KEY] = {
        "fps": board.fps, "seed": board.seed, "style": board.style,
        "cast": [[key, value] for key, value in board.cast.items()], "muted": muted,
    }  # fmt: skip
    for item in spans:
        segment = board.segments[item.index]
        shot += segment.verb != "then" or shot == 0
        media = otio.schema.MissingReference(available_range=span(0, total))
        if film is not None:
            media = otio.schema.ExternalReference(str(film), span(0, total))
        clip = otio.schema.Clip(segment.prompt, media, span(item.start, item.frames))
        facts = {"frames": item.frames, "shot": shot, "muted": _left_out(board, shown, item.index)}
        clip.metadata[KEY] = {**_facts(segment), **facts}
        track.append(clip)
    return timeline


def _left_out(board: Storyboard, shown: set[int], after: int) -> list[dict[str, Any]]:
    """Facts of the segments that are not in the film between segment `after` and the next one that is."""
    left = []
    for index in range(after + 1, len(board.segments)):
        if index in shown:
            break
        left.append(_facts(board.segments[index]))
    return left


def _facts(segment: Segment) -> dict[str, Any]:
    """Decimals are text, because the library's reader of JSON loses their last digit."""
    return {
        "verb": segment.verb, "prompt": segment.prompt, "seconds": repr(segment.seconds), "seed": segment.seed,
        "recache": _text(segment.recache), "blend": _text(segment.blend), "mute": segment.mute,
    }  # fmt: skip


def _text(value: float | None) -> str | None:
    return None if value is None else repr(value)


def _storyboard(timeline: Any, name: str) -> Storyboard:
    facts = timeline.metadata.get(KEY, {})
    segments = [_from_facts(muted) for muted in facts.get("muted", [])]
    clips = [clip for track in timeline.video_tracks()[:1] for clip in track.find_clips()]
    if len(timeline.video_tracks()) > 1:
        log.warning("%s: only its first video track is read", name)
    for clip in clips:
        own = clip.metadata.get(KEY)
        segments.append(_from_clip(clip, own))
        segments += [_from_facts(muted) for muted in (own or {}).get("muted", [])]
    if not segments:
        raise StoryboardError(f"{name} holds no clip", "put at least one clip on the first video track")
    seed = facts.get("seed")
    return Storyboard(
        fps=int(facts.get("fps", DEFAULT_FPS)),
        seed=None if seed is None else int(seed),
        style=facts.get("style", ""),
        cast={key: value for key, value in facts.get("cast", [])},
        segments=tuple(_ordered(segments)),
    )


def _from_facts(facts: Any) -> Segment:
    recache, blend = (None if facts[name] is None else float(facts[name]) for name in ("recache", "blend"))
    if facts.get("loras"):  # edits written when segments could name LoRAs
        log.warning("%s: its LoRAs are left out, they belong to the whole film", facts["prompt"])
    seconds, seed = float(facts["seconds"]), facts["seed"]
    return Segment(facts["verb"], facts["prompt"], seconds, seed, recache, blend, facts["mute"])


def _from_clip(clip: Any, facts: Any) -> Segment:
    """The segment of a clip; one that an editor added is a cut to what its name says."""
    length = clip.trimmed_range().duration
    seconds = min(round(length.value / length.rate, 3), MAX_SECONDS)
    if facts is None:
        return Segment("cut", " ".join(clip.name.split()) or "untitled", seconds, mute=not clip.enabled)
    segment = _from_facts(facts)
    if length.value != facts["frames"]:
        blend = None if segment.blend is None else min(segment.blend, seconds)
        segment = replace(segment, seconds=seconds, blend=blend)
    return segment if clip.enabled else replace(segment, mute=True)


def _ordered(segments: list[Segment]) -> list[Segment]:
    """Verbs that fit the order: the first segment starts, one that was first becomes a scene."""
    first = replace(segments[0], verb="start", recache=None, blend=None)
    return [first, *(replace(one, verb="scene") if one.verb == "start" else one for one in segments[1:])]
