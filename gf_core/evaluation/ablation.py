"""Which part of the memory does what? The paper's Table 2 on the small world: each part taken away, the rest kept.

Films of two sets, from held-out seeds: `switches` (a character, its action changed five times) and `returns` (A, B, A,
C, B, A by cuts). Every variant gets the same words and noise. `methods` puts published memories side by side in one
long shot instead. Definitions: metrics.py, events.py, recurrence.py, borders.py.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..config import MemorySpec
from ..errors import GroundedError
from ..foreign import read_json
from ..memory.presets import PRESETS
from ..words import counted
from ..world.reader import Reader
from ..world.vocabulary import (
    ACTIONS,
    COLOURS,
    PLACES,
    SUBJECTS,
    TIMES,
    cut_caption,
    scene_caption,
    then_caption,
)  # fmt: skip
from .film import judge, spans_of
from .measures.bootstrap import cell_of, mean_interval
from .measures.drift import frame_differences, histogram, histogram_distance, loudness
from .measures.events import moved, place_kept, switches
from .measures.recurrence import recalled_apart, told_apart
from .suite import SEED, Render

SETS = ("switches", "returns")
SEGMENTS = 6
RETURNS = "ABACBA"
METHODS = ("self_forcing", "longlive", "infinity_rope", "rolling_forcing", "context_forcing", "grounded")
AT = (5, 60, 240)
"""Seconds at which a long shot is looked at."""


def variants(memory: MemorySpec) -> dict[str, MemorySpec]:
    """The memory, and it without each of its parts (training-free: the weights stay)."""
    return {
        "full": memory,
        "no_memory": replace(memory, anchor_policy="none"),
        "absolute": replace(memory, positions="absolute", max_position=None),
        "keep": replace(memory, switch="cross_only"),
        "recache": replace(memory, switch="recache", alpha_max=1.0),
        "flush": replace(memory, switch="flush"),
    }


def methods() -> dict[str, MemorySpec]:
    """Published memories to put side by side."""
    return {name: PRESETS[name] for name in METHODS}


NAMES = {
    "full": "full",
    "no_memory": "w/o dual memory",
    "absolute": "w/o DR-RoPE",
    "keep": "w/o APR: keep",
    "recache": "w/o APR: full recache",
    "flush": "w/o APR: flush",
}
COLUMNS: dict[str, tuple[str, float]] = {
    "identity": ("ID %", 100),
    "identity_end": ("ID at end %", 100),
    "recall_near": ("recall, one shot away %", 100),
    "recall_far": ("recall, longer %", 100),
    "apart": ("told apart %", 100),
    "recall_apart_near": ("recall apart, one shot away %", 100),
    "recall_apart_far": ("recall apart, longer %", 100),
    "another": ("another's mark %", 100),
    "place": ("BG %", 100),
    "action": ("actions %", 100),
    "turn": ("turn s", 1),
    "flip": ("ID flips %", 100),
    "jump": ("jump px", 1),
    "flicker": ("flicker x", 1),
    "loud": ("loudness x", 1),
    "drift": ("drift /1000", 1000),
    "motion": ("motion /1000", 1000),
}
"""Measure -> title, and what it is multiplied by."""
COUNTED = ("recall_apart_near", "recall_apart_far", "another")
"""Measures whose cells say of how many marks they are the mean: a film may have none."""


def story(kind: str, number: int, seconds: float) -> str:
    """Storyboard `number` of a set (`switches`, `returns`, `one`), `seconds` a segment; every segment has a seed."""
    rng = random.Random(f"{SEED} {kind} {number}")
    cast = rng.sample([(s, c) for s in range(len(SUBJECTS)) for c in range(len(COLOURS))], 3)
    actions, places = (_walk(rng, len(names)) for names in (ACTIONS, PLACES))
    time = rng.randrange(len(TIMES))
    lines = [scene_caption(rng, *cast[0], actions[0], places[0], time)]
    if kind == "switches":
        lines += [f"then: {then_caption(rng, *cast[0], action)}" for action in actions[1:]]
    elif kind == "returns":
        seen = {"A"}
        for who, action, place in zip(RETURNS[1:], actions[1:], places[1:]):
            whom = cast["ABC".index(who)]
            known = who in seen
            caption = cut_caption if known else scene_caption
            told = {"may_say_it": False} if known else {}
            lines.append(f"cut: {caption(rng, *whom, action, place, time, **told)}")
            seen.add(who)
    return "".join(
        f"{line} | {seconds:g}s | seed {1000 * number + place}\n" for place, line in enumerate(lines)
    )


def stories(seeds: int, seconds: float, sets: Sequence[str] = SETS) -> list[str]:
    """The storyboards that `run` makes films of, for each variant."""
    return [story(kind, seed, seconds) for seed in range(seeds) for kind in sets]


def _walk(rng: random.Random, count: int) -> list[int]:
    """A number below `count` for every segment, none of them that of the segment before."""
    found = [rng.randrange(count)]
    while len(found) < SEGMENTS:
        found.append(rng.choice([number for number in range(count) if number != found[-1]]))
    return found


def measure(frames: np.ndarray, text: str, reader: Reader) -> dict[str, Any]:
    """What a film shows: `COLUMNS` as lists of numbers, and `identity_by_second` for the curve."""
    spans, fps = spans_of(text, len(frames))
    result, reading = judge(frames, spans, fps, reader)
    changes = frame_differences(frames)
    rows = [row for row in result["identity_by_second"] if row["age"] > 0]
    back = [row for row in rows if row["absence"] > 0]
    near = 1.5 * (spans[0].stop - spans[0].start) / fps
    end = spans[-1].stop / fps - 5
    marks = recalled_apart(reading, spans, fps)
    turns = switches(reading, changes, spans, fps)
    then = [span.start for span in spans if span.verb == "then"]
    actions = [part["read"]["action"]["right"] for part in result["segments"]]
    found: dict[str, list[float]] = {
        "identity": [row["hidden"] for row in rows],
        "identity_end": [row["hidden"] for row in rows if row["second"] >= end],
        "recall_near": [row["hidden"] for row in back if row["absence"] <= near],
        "recall_far": [row["hidden"] for row in back if row["absence"] > near],
        "apart": told_apart(reading, spans, fps),
        "recall_apart_near": [row["own"] for row in marks if row["absence"] <= near],
        "recall_apart_far": [row["own"] for row in marks if row["absence"] > near],
        "another": [row["other"] for row in marks],
        "place": [row["kept"] for row in place_kept(reading, spans, fps)],
        "action": [float(right) for right in actions if right is not None],
        "loud": loudness(frames, then, changes),
        "drift": [shot[-1] for shot in result["picture"]["colour_drift_by_second"] if shot],
        "motion": moved(changes, spans, fps),
    }
    for name in ("turn", "flip", "jump", "flicker"):
        found[name] = [row[name] for row in turns if name in row]
    curve = [[round(row["second"]), row["hidden"]] for row in rows]
    return found | {"identity_by_second": curve}


def measure_long(frames: np.ndarray, text: str, reader: Reader) -> dict[str, Any]:
    """Of one long shot, at each of `AT` that it reaches: identity in the 2 s before, and the drift of its colours."""
    spans, fps = spans_of(text, len(frames))
    result, _ = judge(frames, spans, fps, reader)
    second = round(fps)
    first, found = histogram(frames[:second]), {}
    for at in AT:
        if at <= round(len(frames) / second):  # a chunk fewer pictures than asked for are that long, too
            rows = [row for row in result["identity_by_second"] if at - 2 <= row["second"] < at]
            found[f"identity_{at}"] = [float(np.mean([row["hidden"] for row in rows]))]
            last = histogram(frames[(at - 1) * second : at * second])
            found[f"drift_{at}"] = [histogram_distance(first, last)]
    rows = [[round(row["second"]), row["hidden"]] for row in result["identity_by_second"]]
    return found | {"identity_by_second": rows}


LONG_COLUMNS = {f"identity_{at}": (f"ID at {at} s %", 100.0) for at in AT} | {
    f"drift_{at}": (f"drift at {at} s /1000", 1000.0) for at in AT
}


class Variant(NamedTuple):
    """One row of the table."""

    render: Render
    made: str
    """What tells weights and memory; a film of others is made again."""


def run(
    variants: Mapping[str, Variant],
    seeds: int,
    seconds: float,
    reader: Reader,
    out: Path,
    *,
    sets: Sequence[str] = SETS,
    note: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:
    """Make and measure every film that `out` does not know yet, seed by seed; returns its rows.

    out: JSON lines, one a film, so that the same command goes on after a stop. sets: of `SETS`, or `one` alone.
    """
    rows, wanted = list(_read(out)), []
    for seed, kind, name in itertools.product(range(seeds), sets, variants):
        key = {"variant": name, "set": kind, "seed": seed, "seconds": seconds, "made": variants[name].made}
        found = next((row for row in rows if key.items() <= row.items()), None)
        if found is None:
            text = story(kind, seed, seconds)
            frames = variants[name].render(text)
            measured = (measure_long if kind == "one" else measure)(frames, text, reader)
            found = key | {"story": text, "measures": measured}
            out.parent.mkdir(parents=True, exist_ok=True)
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found) + "\n")
            note(f"{name}, {kind} {seed + 1}: {counted(len(frames), 'picture')}")
        wanted.append(found)
    return wanted


def _read(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of an earlier run; a line that a kill cut off is left out. Raises GroundedError for another file."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = read_json(line)
        except ValueError:
            continue
        if not isinstance(row, dict) or "measures" not in row:
            raise GroundedError(f"{path} is no result of an ablation", "name another folder with --out")
        yield row


def table(rows: list[dict[str, Any]], columns: Mapping[str, tuple[str, float]]) -> list[str]:
    """Lines of Markdown, a row per variant; means over films, with intervals that hold 95 % of films drawn anew."""
    names = list(dict.fromkeys(row["variant"] for row in rows))
    lines = [
        f"| variant | {' | '.join(title for title, _ in columns.values())} |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for name in names:
        films = [row["measures"] for row in rows if row["variant"] == name]
        cells = []
        for column, (_, times) in columns.items():
            values = [film.get(column, []) for film in films]
            of = f" of {sum(map(len, values))}" if column in COUNTED else ""
            cells.append(cell_of(values, times) + of)
        lines.append(f"| {NAMES.get(name, name)} | {' | '.join(cells)} |")
    return lines


def by_seed(rows: list[dict[str, Any]], columns: Mapping[str, tuple[str, float]]) -> list[str]:
    """A line per measure with every variant's mean for each seed: whether an order holds in all of them."""
    seeds = sorted({row["seed"] for row in rows})
    lines = []
    for column, (title, times) in columns.items():
        parts = []
        for name in dict.fromkeys(row["variant"] for row in rows):
            films = [[row for row in rows if (row["variant"], row["seed"]) == (name, seed)] for seed in seeds]
            means = (mean_interval([row["measures"].get(column, []) for row in part])[0] for part in films)
            parts.append(f"{NAMES.get(name, name)} " + " / ".join(f"{times * mean:.3g}" for mean in means))
        lines.append(f"- {title} by seed: {'; '.join(parts)}")
    return lines
