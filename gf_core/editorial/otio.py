"""A storyboard as an OpenTimelineIO edit: one clip per segment, all that the text says in the clip's metadata.

What an editor did to the cut is taken over when it is read back: order, deleted and disabled clips, changed lengths,
clips that were added. Without such changes the storyboard comes back equal.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

from ..errors import GroundedError, StoryboardError, installed
from ..foreign import read_json, with_values
from ..timeline import BEGIN_SHOT, Picture, Segment, Storyboard
from ..timeline.storyboard import MAX_SECONDS
from ..words import exact_rate, is_text

log = logging.getLogger("grounded")

KEY = "grounded"
"""Where our facts stand in the metadata of timeline and clips."""
FORMATS = {".otio": "otio_json", ".edl": "cmx_3600", ".fcpxml": "fcpx_xml"}
"""Adapter by suffix; all but the first are plugins of OpenTimelineIO."""
SAID = ("verb", "prompt", "seconds", "seed", "recache", "blend", "mute", "back", "motion")
"""Of a clip's facts, what its segment says."""
PLAIN_RATE = 24
"""EDL and Final Cut XML know the rates of cinema and television only; other films are told in frames of this one."""
PLAIN_RATES = (24, 25, 30, 48, 50, 60, 24000 / 1001, 30000 / 1001)
KINDS = {"b": "true or false", "l": "a whole number", "d": "a number"}
"""What stands in the library's errors for types without a name."""
QUOTE = "\ue000"
"""Stands for a single quote where there may be none; a character that no text has."""


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

    spans: the segments that are in the film, in film order; muted ones are not among them.
    film: the film that the clips point into, as seen from the edit's folder; None leaves them without media.

    Raises GroundedError: OpenTimelineIO, or its plugin for this format, is not installed; or the format is unknown.
    """
    otio, path = _library(), Path(path)
    adapter = _adapter(otio, path)
    for name in (path, film or ""):
        if not is_text(name):
            raise GroundedError(f"the name {name} is not text in UTF-8, as an edit is", "choose another name")
    rate = board.fps
    if adapter != "otio_json" and rate not in PLAIN_RATES:
        told = "%s has no %g pictures a second: times are rounded to those of %d"
        log.info(told, path.suffix, rate, PLAIN_RATE)
        rate = PLAIN_RATE
    if film is not None and adapter == FORMATS[".fcpxml"]:  # Final Cut looks for addresses, not for paths
        film = Path(os.path.abspath(path.parent / film)).as_uri()
    if adapter != FORMATS[".otio"]:
        board = board.without_cast()
    timeline = _timeline(otio, board, spans, path.stem, film, rate)
    try:
        if adapter == FORMATS[".fcpxml"]:
            text = _final_cut(otio, timeline, rate)
        else:
            if adapter == FORMATS[".edl"]:  # its columns end at blanks, so a reel's name has none
                reel = re.sub("[^0-9A-Za-z]", "", Path(film or "").stem)[:8] or "AX"
                for clip in timeline.tracks[0]:
                    clip.metadata[adapter] = {"reel": reel}
            text = otio.adapters.write_to_string(timeline, adapter)
    except Exception as error:  # plugins raise what they like
        raise GroundedError(f"no {path.suffix} can be made of this: {error}", "export it as .otio") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def read_edit(path: str | Path) -> Storyboard:
    """The storyboard of an edit.

    Raises GroundedError: not readable, without a clip, or OpenTimelineIO or its plugin is missing. StoryboardError: an
    edit that no storyboard can say.
    """
    otio, path = _library(), Path(path)
    if not path.is_file():
        raise GroundedError(f"there is no edit {path}", "check the name and the folder")
    adapter = _adapter(otio, path)
    try:
        if adapter == FORMATS[".otio"]:
            _check_tracks(read_json(path.read_bytes()))
        options = {}
        if adapter == FORMATS[".edl"]:
            options = {"rate": _edl_rate(path.read_text("utf-8", "replace"))}
        found = otio.adapters.read_from_file(str(path), adapter_name=adapter, **options)
        if isinstance(found, otio.schema.SerializableCollection):
            found = next((item for item in found if isinstance(item, otio.schema.Timeline)), None)
        if not isinstance(found, otio.schema.Timeline):
            raise GroundedError(f"{path.name} holds no timeline", "export the whole timeline")
        return _storyboard(otio, found, path.name)
    except GroundedError:
        raise
    except Exception as error:
        # Plugins raise what they like, and so do values that are not what they should be.
        raise GroundedError(
            f"{path.name} cannot be read as an edit: {_in_words(error)}", "export it as .otio"
        ) from error


def _in_words(error: Exception) -> str:
    """What the library says, with its classes by their own names: it says `N14opentimelineio7v0_18_14ClipE`."""
    said = re.sub(r"\bN\d+open\w*?_\d+([A-Z]\w*)E\b", r"\1", str(error.args[0] if error.args else error))
    said = re.sub(r"\btype ([bld])\b", lambda found: KINDS[found[1]], said)
    return f"something is missing: {said}" if isinstance(error, KeyError) else said


def _edl_rate(text: str) -> float:
    """Pictures a second of an EDL, which does not say them: the lowest usual rate that has all its frame numbers."""
    drops = ";" in text  # so is written the rate whose minutes leave frame numbers out
    most = max(map(int, re.findall(r"\d\d:\d\d:\d\d[:;](\d\d)", text)), default=0)
    return 30000 / 1001 if drops else next((rate for rate in PLAIN_RATES if most < rate), 60)


def _check_tracks(edit: Any) -> None:
    """OpenTimelineIO ends the whole program over a timeline without tracks; raises ValueError instead."""
    waiting = [edit]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            tracks = value.get("tracks")
            stack = isinstance(tracks, dict) and str(tracks.get("OTIO_SCHEMA")).startswith("Stack.")
            if str(value.get("OTIO_SCHEMA")).startswith("Timeline.") and not stack:
                raise ValueError("a timeline in it has no tracks")
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _library() -> ModuleType:
    with installed("an edit", "pip install opentimelineio"):
        return import_module("opentimelineio")


def _adapter(otio: ModuleType, path: Path) -> str:
    name = FORMATS.get(path.suffix.lower())
    if name is None:
        raise GroundedError(f"{path.name} is no edit that is known here", f"use one of {', '.join(FORMATS)}")
    if name not in otio.adapters.available_adapter_names():
        plugin = {"cmx_3600": "otio-cmx3600-adapter", "fcpx_xml": "otio-fcpx-xml-adapter"}[name]
        raise GroundedError(f"{path.suffix} needs a plugin of OpenTimelineIO", f"pip install {plugin}")
    return name


def _timeline(
    otio: ModuleType,
    board: Storyboard,
    spans: Sequence[Span],
    name: str,
    film: str | Path | None,
    rate: float,
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
        **({"pictures": [[key, value.file] for key, value in board.pictures.items()]} if board.pictures else {}),
    }  # fmt: skip
    for item in spans:
        segment = board.segments[item.index]
        shot += segment.verb in BEGIN_SHOT or shot == 0
        media = otio.schema.MissingReference(available_range=span(0, total))
        if film is not None:
            media = otio.schema.ExternalReference(str(film), span(0, total))
        clip = otio.schema.Clip(segment.prompt, media, span(item.start, item.frames))
        facts = {"frames": item.frames, "shot": shot, "muted": _left_out(board, shown, item.index)}
        clip.metadata[KEY] = {**_facts(board, item.index), **facts}
        track.append(clip)
    return timeline


def _left_out(board: Storyboard, shown: set[int], after: int) -> list[dict[str, Any]]:
    """Facts of the segments that are not in the film between segment `after` and the next one that is."""
    rest = range(after + 1, len(board.segments))
    return [_facts(board, index) for index in takewhile(lambda index: index not in shown, rest)]


def _facts(board: Storyboard, index: int) -> dict[str, Any]:
    """Decimals are text, because the library's reader of JSON loses their last digit."""
    segment = board.segments[index]
    return {
        "number": index + 1, "verb": segment.verb, "prompt": segment.prompt,
        "seconds": repr(segment.seconds), "seed": segment.seed,
        "recache": _text(segment.recache), "blend": _text(segment.blend), "mute": segment.mute,
        "back": segment.back, "motion": segment.motion,
    }  # fmt: skip


def _text(value: float | None) -> str | None:
    return None if value is None else repr(value)


def _final_cut(otio: ModuleType, timeline: Any, rate: float) -> str:
    """`timeline` as Final Cut XML, its project in an event of a library."""
    frame = 1 / exact_rate(rate)
    for clip in timeline.tracks[0]:  # its plugin looks names up between single quotes, so none may be in them
        clip.name = clip.name.replace("'", QUOTE)
    text = otio.adapters.write_to_string(timeline, FORMATS[".fcpxml"]).replace(QUOTE, "'")
    head, _, body = text.partition("<fcpxml")
    root = ElementTree.fromstring("<fcpxml" + body)
    for shape in root.iter("format"):  # the plugin leaves it out at rates such as 24000/1001
        shape.set("frameDuration", shape.get("frameDuration") or f"{frame.numerator}/{frame.denominator}s")
    event = ElementTree.Element("event", name=timeline.name)
    for child in [child for child in root if child.tag != "resources"]:
        root.remove(child)
        event.append(child)
    ElementTree.SubElement(root, "library").append(event)
    ElementTree.indent(root)
    return head + ElementTree.tostring(root, encoding="unicode") + "\n"


def _storyboard(otio: ModuleType, timeline: Any, name: str) -> Storyboard:
    facts = timeline.metadata.get(KEY, {})
    found = [(_number(muted), _from_facts(muted)) for muted in facts.get("muted", [])]
    clips = [clip for track in timeline.video_tracks()[:1] for clip in track.find_clips()]
    if len(timeline.video_tracks()) > 1:
        log.warning("%s: only its first video track is read", name)
    for clip in clips:
        own = clip.metadata.get(KEY)
        found.append((_number(own or {}), _from_clip(otio, clip, own)))
        found += [(_number(muted), _from_facts(muted)) for muted in (own or {}).get("muted", [])]
    if not found:
        raise StoryboardError(f"{name} holds no clip", "put at least one clip on the first video track")
    said = {key: facts[key] for key in ("fps", "seed", "style") if key in facts}
    cast, files = ({key: value for key, value in facts.get(name, [])} for name in ("cast", "pictures"))
    if not all(isinstance(word, str) for pair in (*cast.items(), *files.items()) for word in pair):
        raise ValueError("its cast is not made of words")
    pictures = {key: Picture(file) for key, file in files.items()}
    board = replace(with_values(Storyboard(), said), cast=cast, pictures=pictures)
    return replace(board, segments=tuple(_ordered(_renumbered(found))))


def _from_facts(facts: Any) -> Segment:
    if facts.get("loras"):  # edits written when segments could name LoRAs
        log.warning("%s: its LoRAs are left out, they belong to the whole film", facts["prompt"])
    said = {key: facts[key] for key in SAID if key in facts}
    for key in ("seconds", "recache", "blend"):
        if said.get(key) is not None:
            said[key] = float(said[key])
    return with_values(Segment("cut", facts["prompt"]), said)


def _from_clip(otio: ModuleType, clip: Any, facts: Any) -> Segment:
    """The segment of a clip; one that an editor added is a cut to what its name says."""
    segment = Segment("cut", " ".join(clip.name.split()) or "untitled")
    if facts is not None:
        segment = _from_facts(facts)
    length = None
    with suppress(otio.exceptions.CannotComputeAvailableRangeError):
        length = clip.trimmed_range().duration
    if length is None or not length.rate > 0:
        log.warning("%s: its clip has no length, %g s are taken", segment.prompt, segment.seconds)
        return segment if clip.enabled else replace(segment, mute=True)
    if facts is None or length.value != facts["frames"]:
        seconds = min(round(length.value / length.rate, 3), MAX_SECONDS)
        blend = None if segment.blend is None else min(segment.blend, seconds)
        segment = replace(segment, seconds=seconds, blend=blend)
    return segment if clip.enabled else replace(segment, mute=True)


def _number(facts: Any) -> int:
    """Which segment it was when the edit was written; 0 where that is not said."""
    number = facts.get("number", 0)
    return number if isinstance(number, int) else 0


def _renumbered(found: list[tuple[int, Segment]]) -> list[Segment]:
    """The segments, with the new numbers of those that they go back to; of one that was split, the last part in front.

    Where that one is gone, muted, or stands behind now, a cut keeps at least the cast of what is in front.
    """
    segments = []
    for own, (_, segment) in enumerate(found):
        if segment.verb == "back":
            before = [n for n, (was, s) in enumerate(found[:own], 1) if was == segment.back and not s.mute]
            if before:
                segment = replace(segment, back=before[-1])
            else:
                message = "%s: segment %s is not in front of it any more, so it does not go back but cuts"
                log.warning(message, segment.prompt, segment.back)
                segment = replace(segment, verb="cut", back=None, motion=False)
        segments.append(segment)
    return segments


def _ordered(segments: list[Segment]) -> list[Segment]:
    """Verbs that fit the order: the first segment starts, one that was first becomes a scene."""
    first = segments[0].restarted("start")
    return [first, *(replace(one, verb="scene") if one.verb == "start" else one for one in segments[1:])]
