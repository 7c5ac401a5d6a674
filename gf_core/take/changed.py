"""What has changed from one render to the next, in words: `segment 4: another prompt`, `memory: recent 6 -> 4`."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import takewhile
from typing import Any

from ..config import MemorySpec, SampleSpec, as_facts
from ..memory.presets import PRESETS

Settings = dict[str, Any]
"""What a run's `settings.json` holds."""
_NAMES = {
    "engine": "the program's version",
    "model": "the model",
    "text": "the text encoder",
    "size": "the size",
    "start": "the start image or video",
    "codec": "the decoder",
    "fps": "pictures per second",
    "encoder": "the video encoder's version",
    "options": "the video encoder's settings",
    "geometry": "the chunks",
    "clips": "the lengths that the noise is drawn for",
    "dtype": "number type",
    "compiled": "compiler",
    "parts": "device of text encoder and decoder",
    "ranks": "processes",
}
_USUAL = {"memory": asdict(MemorySpec()), "sample": asdict(SampleSpec()), "kernels": {"ranks": 1}}
_TOLD = ("verb", "back", "motion", "seed", "recache", "blend")
"""Differences of a segment that are told with both values."""


def what_changed(old: Settings, new: Settings, *, latents: bool) -> str:
    """The first difference that decides latents, or else pictures; empty where there is none."""
    kind = "facts" if latents else "pictures"
    return _first_difference(old.get(kind, {}), new[kind]) or (_changed_segment(old, new) if latents else "")


def unlike(old: Settings, new: Settings) -> int:
    """How many of the facts outside the storyboard that decide latents are others."""
    was, now = old.get("facts"), new["facts"]
    if not isinstance(was, dict):
        return len(now)
    return sum(was.get(name) != now.get(name) for name in was.keys() | now.keys())


def same_segments(old: Settings, new: Settings) -> int:
    """How many of the first segments are the same."""
    keys = zip(*([segment["key"] for segment in s.get("segments", [])] for s in (old, new)))
    return sum(takewhile(bool, (was == now for was, now in keys)))


def _first_difference(old: Any, new: Any, path: tuple[str, ...] = ()) -> str:
    """The first difference between two trees of JSON values: `memory: recent 6 -> 4`."""
    if old == new:
        return ""
    if isinstance(old, dict) and isinstance(new, dict):
        methods = [_method(old), _method(new)] if path == ("memory",) else []
        if all(methods) and len(set(methods)) > 1:
            return f"memory: {' -> '.join(methods)}"
        # Settings at their defaults are left away.
        usual = _USUAL.get(path[0], {}) if len(path) == 1 else {}
        for name in sorted(old.keys() | new.keys(), key=lambda name: (name == "clips", name)):
            was, now = (facts.get(name, usual.get(name)) for facts in (old, new))
            found = _first_difference(was, now, (*path, name))
            if found:
                return found
    if "options" in path:
        return _NAMES["options"]
    name = _NAMES.get(path[-1], path[-1]) if path else "the settings"
    where = f"{path[0]}: " if len(path) > 1 and path[0] != "kernels" else ""
    hidden = path and path[-1] in ("model", "text", "start", "codec", "clips")
    return f"{where}{name}" + ("" if hidden else f" {_value(old)} -> {_value(new)}")


def _method(memory: dict[str, Any]) -> str:
    """The name of this very memory, in chunks of any length; empty where it has none."""
    rows = {name: json.loads(json.dumps(as_facts(spec))) for name, spec in PRESETS.items()}
    chunk = {"chunk": memory.get("chunk")}
    return next((name for name, facts in rows.items() if {**facts, **chunk} == memory), "")


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ("x" if all(isinstance(item, int) for item in value) else ", ").join(map(str, value))
    return "none" if value is None else str(value)


def _changed_segment(old: Settings, new: Settings) -> str:
    """What the first segment with another key differs in; empty where there is none."""
    before: list[dict[str, Any]] = old.get("segments", [])
    after: list[dict[str, Any]] = new["segments"]
    known_keys = [segment["key"] for segment in before]
    # A slice, as the old film may be shorter: nothing equals its end.
    place = next((i for i, s in enumerate(after) if s["key"] not in known_keys[i : i + 1]), None)
    if place is None:
        return ""
    segment = after[place]
    name = f"segment {segment['number']}"
    if place >= len(before):
        return f"{name}: new"
    was = before[place]
    # Behind a change every key is another one, so segments are known again by prompt and seed.
    if _identity(segment) != _identity(was):
        stays = _identity(was) in map(_identity, after)
        if _identity(segment) in map(_identity, before):
            return f"{name}: moved" if stays else f"a segment before {name} was removed"
        if _identity(was) in map(_identity, after[place + 1 :]):
            return f"{name}: new"
    return f"{name}: {_difference(was, segment)}"


def _identity(segment: dict[str, Any]) -> tuple[str, int]:
    """What makes a segment itself, wherever it stands."""
    return segment["prompt"], segment["seed"]


def _difference(was: dict[str, Any], now: dict[str, Any]) -> str:
    if was["prompt"] != now["prompt"]:
        return "another prompt"
    for file, seen in now.get("pictures", {}).items():
        if seen not in str(was.get("pictures")):
            return f"the picture {file}"
    for name in _TOLD:
        if was.get(name) != now.get(name):
            return f"{name} {_value(was.get(name))} -> {_value(now.get(name))}"
    if was["chunks"] != now["chunks"]:
        return " -> ".join(f"{round(one['seconds'], 2):g} s" for one in (was, now))
    return "what comes before it"
