"""Checks an API-format prompt against a host's live /object_info, as the host's own validation would, and stricter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

EXTRA = {"video-preview", "upload"}
"""inputs that the front end adds by itself"""


def problems(prompt: Mapping[str, Any], info: Mapping[str, Any]) -> list[str]:
    """One line per thing that is wrong: unknown nodes and inputs, missing ones, values and links that do not fit."""
    found: list[str] = []
    for key, node in prompt.items():
        known = info.get(node["class_type"])
        if known is None:
            found.append(f"{key}: the host has no node {node['class_type']}")
            continue
        wanted = {**known["input"].get("required", {}), **known["input"].get("optional", {})}
        label = f"{key} {node['class_type']}"
        found += [
            f"{label}: {n} is missing" for n in known["input"].get("required", {}) if n not in node["inputs"]
        ]
        for name, value in node["inputs"].items():
            if name not in wanted:
                found += [] if name in EXTRA else [f"{label}: there is no input {name}"]
            elif isinstance(value, list):
                found += [f"{label}.{name}: {text}" for text in _link(value, wanted[name][0], prompt, info)]
            else:
                found += [f"{label}.{name}: {text}" for text in _value(value, wanted[name])]
    return found


def _link(link: list[Any], kind: Any, prompt: Mapping[str, Any], info: Mapping[str, Any]) -> list[str]:
    source = prompt.get(str(link[0]))
    if source is None:
        return [f"comes from node {link[0]}, which is not there"]
    outputs = info.get(source["class_type"], {}).get("output", [])
    if link[1] >= len(outputs):
        return [f"comes from output {link[1]} of {source['class_type']}, which has {len(outputs)}"]
    given = outputs[link[1]]
    fits = kind == "*" or given == "*" or given in str(kind).split(",")
    return [] if fits else [f"is {kind} and gets {given}"]


def _value(value: Any, entry: list[Any]) -> list[str]:
    kind, options = entry[0], entry[1] if len(entry) > 1 else {}
    choices = kind if isinstance(kind, list) else options.get("options") if kind == "COMBO" else None
    if choices is not None:
        return [] if value in choices else [f"{value!r} is not in the list {choices[:6]}"]
    wrong = {"INT": int, "FLOAT": (int, float), "STRING": str, "BOOLEAN": bool}.get(kind)
    if wrong is None or not isinstance(value, wrong):
        return [f"{value!r} is no {kind}"]
    if kind in ("INT", "FLOAT") and not options.get("min", value) <= value <= options.get("max", value):
        return [f"{value} is outside {options.get('min')} to {options.get('max')}"]
    return []
