"""What the verbs do: who is still known after going back, and how much of the old place a new shot shows.

    python -m gf_core.evaluation.verbs [--films 8] [--memory own] [--blind 1] [--out verbs.json]

Two sets from held-out seeds of the storyboard world; each film is made once per verb, with the same words and noise.
`known`: a character, two others, the first again, elsewhere, by `cut:` or `back to 1:`. `place`: a character in one
place, then in two others, by `cut:` or `scene:`.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..checkpoints.bundle import load_model
from ..world.reader import Reader, load_reader, read
from ..world.vocabulary import (
    ACTIONS,
    COLOURS,
    PLACES,
    SUBJECTS,
    TIMES,
    cut_caption,
    scene_caption,
)  # fmt: skip
from .film import spans_of
from .measures import metrics
from .report import percent, run_command
from .suite import SEED, Render, in_memory, memories

SECONDS = 3
WAYS = {"known": {"cut": "cut", "back": "back to 1"}, "place": {"cut": "cut", "scene": "scene"}}
"""Set -> name of each way -> what a line begins with."""


def known_storyboard(number: int, verb: str) -> str:
    """A character, a cut to a second, a cut to a third, and by `verb` the first again, in a place of its own."""
    rng = random.Random(SEED + 900_000 + number)
    cast = rng.sample(
        [(subject, colour) for subject in range(len(SUBJECTS)) for colour in range(len(COLOURS))], 3
    )
    places = rng.sample(range(len(PLACES)), 4)
    shots = [scene_caption(rng, *who, *_how(rng, place)) for who, place in zip(cast, places)]
    again = cut_caption(rng, *cast[0], *_how(rng, places[3]), may_say_it=False)
    return _text(number, [shots[0], f"cut: {shots[1]}", f"cut: {shots[2]}", f"{verb}: {again}"])


def place_storyboard(number: int, verb: str) -> str:
    """A character in one place, and by `verb` in two others."""
    rng = random.Random(SEED + 950_000 + number)
    who = rng.randrange(len(SUBJECTS)), rng.randrange(len(COLOURS))
    first, *others = rng.sample(range(len(PLACES)), 3)
    shots = [scene_caption(rng, *who, *_how(rng, first))]
    shots += [f"{verb}: {cut_caption(rng, *who, *_how(rng, place), may_say_it=False)}" for place in others]
    return _text(number, shots)


def _how(rng: random.Random, place: int) -> tuple[int, int, int]:
    return rng.randrange(len(ACTIONS)), place, rng.randrange(len(TIMES))


def _text(number: int, lines: Sequence[str]) -> str:
    """Every segment has a seed of its own, so that no verb changes the noise."""
    return "\n".join(f"{line} | {SECONDS}s | seed {10 * number + i}" for i, line in enumerate(lines)) + "\n"


def measure(render: Render, reader: Reader, texts: Sequence[str], judged: slice) -> dict[str, float]:
    """Means over the `judged` segments of all films, and how many segments these are.

    Shares of pictures: of an identity attribute that are as at first sight (`hidden`: mean of scarf, hat, patch), and
    in the first second that show the place before (`old`) and the one asked for (`new`).
    """
    kept: list[dict[str, Any]] = []
    places: list[dict[str, Any]] = []
    for text in texts:
        frames = render(text)
        spans, fps = spans_of(text, len(frames))
        reading = read(reader, frames)
        wanted = range(len(spans))[judged]
        kept += [row for row in metrics.identity(reading, spans, fps) if row["segment"] in wanted]
        places += [row for row in metrics.place_left(reading, spans, fps) if row["segment"] in wanted]
    return metrics.means(kept) | metrics.means(places, metrics.LEFT) | {"segments": len(places)}


def measure_verbs(
    render: Render, films: int, note: Callable[[str], None] = lambda text: None
) -> dict[str, dict[str, dict[str, float]]]:
    """Set -> way -> `measure`."""
    reader = load_reader()
    result: dict[str, dict[str, dict[str, float]]] = {}
    for name, write, judged in (
        ("known", known_storyboard, slice(3, 4)),
        ("place", place_storyboard, slice(1, 3)),
    ):
        for way, verb in WAYS[name].items():
            texts = [write(number, verb) for number in range(films)]
            result.setdefault(name, {})[way] = measure(render, reader, texts, judged)
            note(line_of(name, way, result[name][way]))
    return result


def line_of(name: str, way: str, row: dict[str, float]) -> str:
    """One way's shares as a line."""
    shown = (f"{key} {percent(row[key])}" for key in (*metrics.TRAITS, *metrics.LEFT))
    return f"{name} {way:<6} {row['segments']:>3} segments  " + "  ".join(shown)


def main() -> int:
    """Command line: a line per memory, set and way."""
    parser = argparse.ArgumentParser(description="measure what the verbs do with a built-in model")
    parser.add_argument("--model", default="builtin", help="'builtin' or a model's file or folder")
    parser.add_argument("--memory", default="own", help="comma list: own, no_anchors, or presets")
    parser.add_argument("--blind", type=int, default=0, help="`MemorySpec.cut_blind`")
    parser.add_argument("--films", type=int, default=8, help="films per set and way")
    parser.add_argument("--out", type=Path, help="write all numbers as JSON")
    options = parser.parse_args()

    def measure_all() -> dict[str, Any]:
        results, bundle = {}, load_model(options.model)
        for name, memory in memories(bundle.recipe.memory, options.memory.split(",")).items():
            print(f"memory: {name}", flush=True)
            render = in_memory(bundle, replace(memory, cut_blind=options.blind))
            results[name] = measure_verbs(render, options.films, note=lambda text: print(text, flush=True))
        return results

    return run_command(measure_all, options.out)


if __name__ == "__main__":
    sys.exit(main())
