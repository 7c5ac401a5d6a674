"""The verdict on a film as text lines and JSON."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import GroundedError
from ..files.atomic import write_text
from ..words import counted
from ..world.vocabulary import ATTRIBUTES, HIDDEN, PROMPTED


def name_of(attribute: str, value: int | None) -> str:
    """The word for a class id; an em dash where there is none."""
    return "—" if value is None else ATTRIBUTES[attribute][value]


def percent(value: float | None) -> str:
    """0.934 -> "93 %"; missing values as a dash."""
    return "—" if value is None or math.isnan(value) else f"{100 * value:.0f} %"


def segment_line(segment: dict) -> str:
    """One line on one segment: what was asked, and what was read where it differs."""
    parts = []
    for name in PROMPTED:
        cell = segment["read"].get(name)
        if cell is None or cell["right"] is None:
            continue
        asked = name_of(name, cell["asked"])
        parts.append(asked if cell["right"] else f"{asked} (read {name_of(name, cell['read'])})")
    judged = ", ".join(parts) or "nothing in the prompt can be judged"
    return f"{segment['start_seconds']:6.2f} s  {segment['verb']:<5}  {judged}"


def text_report(result: dict) -> str:
    """The whole result of `evaluate_film` as a few readable lines."""
    lines = [f"{result['film']}: {counted(result['frames'], 'picture')}, {result['seconds']:.2f} s"]
    if "start_frames" in result:
        lines.append(
            f"not judged           the first {counted(result['start_frames'], 'picture')}, those of its start"
        )
    if "segments" in result:
        lines += _judged_lines(result)
    lines += _over_time_lines(result["over_time"])
    return "\n".join(lines + [f"{name}  {value:.3f}" for name, value in result.get("vbench", {}).items()])


def _judged_lines(result: dict) -> list[str]:
    """What is only known of films of the built-in model."""
    lines = [segment_line(segment) for segment in result["segments"]]
    shares = result["adherence"]
    if shares:
        lines.append(
            "follows the prompt   " + "  ".join(f"{name} {percent(shares[name])}" for name in shares)
        )
    identity = result["identity"]
    if identity:
        parts = [f"{name} {percent(identity.get(name))}" for name in ("hidden", *HIDDEN, "subject", "colour")]
        lines.append("keeps its identity   " + "  ".join(parts))
        back = [
            f"after a {kind} {percent(identity[f'{kind}_hidden'])}"
            for kind in ("cut", "return")
            if f"{kind}_hidden" in identity
        ]
        if back:
            lines.append("hidden attributes    " + "  ".join(back))
    if distances := result["identity_by_distance"]:
        told = (f"{'the shot before' if n == 1 else n} {percent(kept)}" for n, kept in distances.items())
        lines.append(f"by shots since seen  {'  '.join(told)}")
    picture = result["picture"]
    loud = ", ".join(f"{value:.1f}" for value in picture["loudness"]) or "no switch"
    lines.append(
        f"picture              flicker {picture['flicker']:.4f}  "
        f"colour drift {picture['colour_drift']:.4f}  loudness of switches {loud}"
    )
    if result["unreadable"]:
        lines.append(
            "unreadable           " + "  ".join(f"{k} {percent(v)}" for k, v in result["unreadable"].items())
        )
    return lines


def change(value: float | None) -> str:
    """-0.123 -> "-12 %"; missing values as a dash."""
    return "—" if value is None or math.isnan(value) else f"{100 * value:+.0f} %"


def _over_time_lines(found: dict[str, Any]) -> list[str]:
    """What is known of a film of any model, and what was left out and why."""
    ends = "  ".join(f"{name} {change(value)}" for name, value in found["drift"].items())
    lines = [f"first to last 15 %   {ends}"]
    if "borders" in found:
        told = "none" if math.isnan(found["borders"]) else f"change {found['borders']:.2f} times that inside"
        lines.append(f"chunk borders        {told}")
    if "cuts" in found:
        cuts = found["cuts"]
        lines.append(f"cuts                 {cut_words(cuts)}")
        lines += [
            f"                     {name} at picture {', '.join(map(str, cuts[name]))}"
            for name in ("missed", "extra")
            if cuts[name]
        ]
    return lines + [f"not measured         {name}: {why}" for name, why in found["left_out"].items()]


def cut_words(cuts: dict[str, list[int]]) -> str:
    """How many of the written cuts are seen, and how many more."""
    written = len(cuts["seen"]) + len(cuts["missed"])
    return f"{len(cuts['seen'])} of {written} seen, {len(cuts['extra'])} more"


def write_json(result: dict, path: Path) -> None:
    """Write the result; NaN becomes null, so that every JSON reader takes it."""

    def clean(value: object) -> object:
        if isinstance(value, dict):
            return {str(k): clean(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [clean(v) for v in value]
        if isinstance(value, float):
            return round(value, 5) if math.isfinite(value) else None
        return value

    write_text(path, json.dumps(clean(result), indent=1) + "\n")


def run_command(work: Callable[[], dict[str, Any]], out: Path | None) -> int:
    """The exit status of a measurement: its numbers go to `out` where one is given, its errors are told in words."""
    try:
        numbers = work()
    except GroundedError as error:
        print(error, file=sys.stderr)
        return 2
    if out:
        write_json(numbers, out)
    return 0
