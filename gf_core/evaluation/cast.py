"""Whether a picture of somebody in the cast makes a film of the built-in model show them: with it against without.

    python -m gf_core.evaluation.cast [--films 24] [--memory own] [--out cast.json]

Captions of the small world never say scarf, hat and patch, so that a film can only have them from the picture. Each
film shows a character in one place and, after a cut, in another; the picture shows them in a third. What is read in the
film is held against the character and the two places that were asked for.
"""

from __future__ import annotations

import argparse
import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..checkpoints.bundle import load_model
from ..words import counted
from ..world.reader import Reader, load_reader, read
from ..world.render import render
from ..world.script import Place, Script, sample_script, storyboard
from ..world.vocabulary import ATTRIBUTES, HIDDEN, PLACES, TIMES, name_of
from .report import percent, run_command
from .suite import SEED, Render, in_memory, memories

FILE = "who.png"
CHUNKS = 8
"""Chunks of a film, half of them before the cut."""
SKIPPED = 12
"""Pictures of a segment that are not judged: it has to begin first."""
JUDGED = (*HIDDEN, "subject", "colour", "place", "time")


def two_places(seed: int) -> Script:
    """A character in one place, then, after a cut, in another."""
    while True:
        script = sample_script(random.Random(seed), CHUNKS, "cut")
        first, *rest = script.segments
        if (
            len(rest) == 1
            and rest[0].character == first.character
            and rest[0].place.place != first.place.place
        ):
            first = replace(first, chunks=CHUNKS // 2)
            rest = replace(rest[0], start_chunk=CHUNKS // 2, chunks=CHUNKS // 2)
            return replace(script, segments=(first, rest))
        seed += 1_000_003


def portrait(script: Script, rng: random.Random) -> np.ndarray:
    """The script's character standing in a third place, uint8 [64 96 3]."""
    first = script.segments[0]
    elsewhere = [n for n in range(len(PLACES)) if n not in {part.place.place for part in script.segments}]
    place = Place(rng.choice(elsewhere), rng.randrange(len(TIMES)), 0, rng.randrange(2), 0)
    shown = replace(first, start_chunk=0, chunks=1, place=place, action=0, x=48.0)
    return render(replace(script, segments=(shown,))).frames[0]


def board_of(script: Script) -> str:
    """The script with its character in the cast, picture and all."""
    who = script.segments[0].character
    name = name_of(who.subject, who.colour)
    return f"@cast who = {name} | {FILE}\n" + storyboard(script).replace(name, "{who}")


def judge(frames: np.ndarray, script: Script, reader: Reader) -> list[dict[str, float]]:
    """Per segment, for each of `JUDGED` the share of pictures in which it is read as the script has it."""
    reading, rows = read(reader, frames), list[dict[str, float]]()
    for part in script.segments:
        here = slice(part.first_frame + SKIPPED, part.first_frame + part.frames)
        asked = dict(zip(ATTRIBUTES, part.labels))
        rows.append({name: float((reading.labels[name][here] == asked[name]).mean()) for name in JUDGED})
    return rows


def compare(films: int, make: dict[str, Render], pictures: dict[str, torch.Tensor], reader: Reader) -> dict:
    """For every maker the rows of `films` films; `pictures` is what it looks its picture up in."""
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in make}
    for number in range(films):
        script = two_places(SEED + 900_000 + number)
        shown = portrait(script, random.Random(number))
        pictures[FILE] = torch.from_numpy(shown.astype(np.float32) / 255)[None]
        for name, render_text in make.items():
            text = board_of(script)
            rows[name] += judge(
                render_text(text if name != "without" else text.replace(f" | {FILE}", "")), script, reader
            )
    return rows


def main() -> int:
    """Command line: a line per attribute, with the picture and without, and their standard errors."""
    parser = argparse.ArgumentParser(
        description="what a picture of the cast does in films of the built-in model"
    )
    parser.add_argument("--films", type=int, default=24, help="how many (default: 24)")
    parser.add_argument("--memory", default="own", help="own, or a preset (default: own)")
    parser.add_argument("--out", type=Path, help="write all numbers as JSON")
    options = parser.parse_args()

    def compare_both() -> dict[str, Any]:
        bundle = load_model("builtin")
        ((_, memory),) = memories(bundle.recipe.memory, [options.memory]).items()
        pictures: dict[str, torch.Tensor] = {}
        make = {"without": in_memory(bundle, memory), "with": in_memory(bundle, memory, pictures)}
        rows = compare(options.films, make, pictures, load_reader())
        print(
            f"{counted(options.films, 'film')} of two shots, memory {options.memory}; "
            f"share of pictures, +- standard error"
        )
        print(f"{'':10}{'without':>16}{'with':>16}")
        for name in JUDGED:
            told = [
                f"{percent(mean)} +- {percent(error)}"
                for mean, error in (spread(rows[side], name) for side in make)
            ]
            print(f"{name:10}" + "".join(f"{one:>16}" for one in told))
        return rows

    return run_command(compare_both, options.out)


def spread(rows: list[dict[str, float]], name: str) -> tuple[float, float]:
    """Mean over films and its standard error; a film's shots are averaged first."""
    films = np.array([row[name] for row in rows]).reshape(-1, 2).mean(1)
    error = films.std(ddof=1) / len(films) ** 0.5 if len(films) > 1 else np.nan
    return float(films.mean()), float(error)


if __name__ == "__main__":
    sys.exit(main())
