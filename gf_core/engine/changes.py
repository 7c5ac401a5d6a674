"""Why a film cannot be taken over as it is: the first thing that differs from an earlier run, in words."""

from __future__ import annotations

from typing import Any

Settings = dict[str, Any]
Segment = dict[str, Any]

_FACTS = {
    "engine": "the program's version",
    "model": "the model",
    "text": "the text encoder",
    "size": "the size",
    "start": "the start image",
    "codec": "the decoder",
    "fps": "frames per second",
    "encoder": "the video encoder's version",
    "options": "the video encoder's settings",
    "geometry": "the chunks",
}
_TOLD = ("verb", "seed", "recache", "blend")
"""Differences of a segment that are told with both values."""


def what_changed(old: Settings, new: Settings, chunks: int, pictures: int, wanted: int) -> str:
    """The reason why only `chunks` of `wanted` chunks (and pictures of `pictures`) could be taken from a run.

    old, new: `settings.json` of that run and of the film to be made. Empty when all is there.
    """
    if chunks < wanted:
        return _facts(old.get("facts", {}), new["facts"]) or _segments(old, new)
    if pictures < wanted:
        return _facts(old.get("pictures", {}), new["pictures"]) or "the film was not finished"
    return ""


def _facts(old: Any, new: Any, path: tuple[str, ...] = ()) -> str:
    """The first difference between two trees of JSON values: `memory: recent 6 -> 4`."""
    if old == new:
        return ""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            found = _facts(old.get(name), new.get(name), (*path, name))
            if found:
                return found
    if "options" in path:
        return _FACTS["options"]
    name = _FACTS.get(path[-1], path[-1]) if path else "the settings"
    where = f"{path[0]}: " if len(path) > 1 else ""
    hidden = path and path[-1] in ("model", "text", "start", "codec")
    return f"{where}{name}" + ("" if hidden else f" {_value(old)} -> {_value(new)}")


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ("x" if all(isinstance(item, int) for item in value) else ", ").join(map(str, value))
    return "none" if value is None else str(value)


def _segments(old: Settings, new: Settings) -> str:
    """What the first segment with another key differs in."""
    before: list[Segment] = old.get("segments", [])
    after: list[Segment] = new["segments"]
    known_keys = [segment["key"] for segment in before]
    place = next((i for i, s in enumerate(after) if s["key"] not in known_keys[i : i + 1]), None)
    if place is None:
        return "the film was not finished"
    segment = after[place]
    name = f"segment {segment['number']}"
    if place >= len(before):
        return f"{name}: new"
    was = before[place]
    known, still = [_text(s) for s in before], [_text(s) for s in after]
    mine = _text(segment)
    if mine != _text(was):
        if mine in known:
            return f"{name}: moved" if _text(was) in still else f"a segment before {name} was removed"
        if _text(was) in still[place + 1 :]:
            return f"{name}: new"
    return f"{name}: {_difference(was, segment)}"


def _text(segment: Segment) -> tuple[str, int]:
    """What makes a segment itself, wherever it stands."""
    return segment["prompt"], segment["seed"]


def _difference(was: Segment, now: Segment) -> str:
    if was["prompt"] != now["prompt"]:
        return "prompt"
    for name in _TOLD:
        if was.get(name) != now.get(name):
            return f"{name} {_value(was.get(name))} -> {_value(now.get(name))}"
    if was["chunks"] != now["chunks"]:
        return f"{was['seconds']:g} s -> {now['seconds']:g} s"
    return "what comes before it"
