"""Judge a model on storyboards that it has never seen: how much follows the prompt, and who stays who.

    python -m gf_core.evaluation.suite --model builtin [--memory all] [--out suite.json]

Three sets, all from held-out seeds of the storyboard world: `mixed` (5 segments of 3 s: switches, cuts,
scenes and returns), `return` (a character, somebody else, the character again) and `long` (one prompt for a
minute). Numbers that `--out` already has, of the same model, memory and storyboards, are not measured again.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..checkpoints.bundle import load_model
from ..checkpoints.model_bundle import ModelBundle
from ..config import MemorySpec
from ..devices import on_threads
from ..errors import GroundedError
from ..foreign import read_json
from ..memory.presets import PRESETS
from ..sampling.film import Cues, film_chunks
from ..timeline import Timing, make_plan, parse
from ..vae.base import to_uint8
from ..vae.decoders import begin_apart
from ..world.reader import Reader, load_reader
from ..world.script import Script, sample_script, storyboard
from .film import judge, spans_of
from .measures.metrics import LEFT, TRAITS, means, share_right
from .report import percent, run_command, write_json
from .suite_table import suite_table

Render = Callable[[str], np.ndarray]
"""Storyboard text -> film, uint8 frames [t 64 96 3]."""
SEED = 2_000_000_000
"""First script seed of the suite; neither a model nor the reader is trained on seeds from here on."""
SEGMENT_CHUNKS = 4
LONG_SECONDS = 60
AGES = (5, 10, 20, 30, 40, 50, 59)
"""Ages in seconds at which the identity of a long shot is reported."""


def _even(script: Script) -> Script:
    """The script with all segments of one length, so that each is judged on the same number of windows."""
    segments = tuple(
        replace(segment, start_chunk=i * SEGMENT_CHUNKS, chunks=SEGMENT_CHUNKS)
        for i, segment in enumerate(script.segments)
    )
    return replace(script, segments=segments)


def mixed_scripts(count: int) -> list[Script]:
    """Scripts of five segments of 3 s with any mix of `then`, `cut`, `scene` and returns."""
    scripts: list[Script] = []
    seed = SEED
    while len(scripts) < count:
        script = sample_script(random.Random(seed), 4 * 5, "mixed")
        seed += 1
        if len(script.segments) == 5:
            scripts.append(_even(script))
    return scripts


def return_scripts(count: int) -> list[Script]:
    """A character, a cut to another one, a cut back to the first: 3 s each."""
    return [_even(sample_script(random.Random(SEED + 500_000 + i), 12, "return")) for i in range(count)]


def long_storyboards(count: int) -> list[str]:
    """One prompt for a minute."""
    scripts = (sample_script(random.Random(SEED + 700_000 + i), 4, "single") for i in range(count))
    return [f"{script.segments[0].caption} | {LONG_SECONDS}s\n" for script in scripts]


def _judge_all(render: Render, texts: Iterable[str], reader: Reader) -> list[dict]:
    results = []
    for text in texts:
        frames = render(text)
        spans, fps = spans_of(text, len(frames))
        result, _ = judge(frames, spans, fps, reader)
        results.append({"storyboard": text, **result})
    return results


def _adherence(results: list[dict], verb: str = "") -> dict[str, float]:
    """Share of segments (of this verb, where one is given) read right per attribute."""
    segments = (segment for result in results for segment in result["segments"])
    return share_right([segment["read"] for segment in segments if verb in ("", segment["verb"])])


def _rows(results: list[dict], keep: Callable[[dict], bool]) -> list[dict]:
    return [row for result in results for row in result["identity_by_second"] if keep(row)]


def _by_age(results: list[dict]) -> dict[str, float]:
    """Hidden identity of the long shots, averaged over a second either side of each age."""
    ages = {}
    for age in AGES:
        rows = _rows(results, lambda row, age=age: abs(row["age"] - age) <= 1)
        if rows:
            ages[str(age)] = float(np.mean([row["hidden"] for row in rows]))
    return ages


def _picture(results: list[dict]) -> dict[str, float]:
    """Means over films: flicker, colour drift, and loudness of `then` switches (cuts are meant to be
    loud)."""
    loud = [
        value
        for result in results
        for value, segment in zip(result["picture"]["loudness"], result["segments"][1:])
        if segment["verb"] == "then"
    ]
    means = {
        name: float(np.mean([r["picture"][name] for r in results])) for name in ("flicker", "colour_drift")
    }
    return means | ({"then_loudness": float(np.median(loud))} if loud else {})


def evaluate_suite(render: Render, *, mixed: int, returns: int, long: int) -> dict:
    """Render and judge the three sets; shares right per attribute and identity kept, all between 0 and 1.

    Chance level: subject, colour, scarf, action, place 1/6; hat 1/4;
    patch, time 1/3.
    """
    reader = load_reader()
    first = _judge_all(render, map(storyboard, mixed_scripts(mixed)), reader)
    back = _judge_all(render, map(storyboard, return_scripts(returns)), reader)
    lasting = _judge_all(render, long_storyboards(long), reader)
    result: dict = {"counts": {"mixed": mixed, "returns": returns, "long": long}}
    if first:
        result["adherence"] = _adherence(first)
        result["adherence_by_verb"] = {
            verb: _adherence(first, verb) for verb in ("start", "then", "cut", "scene")
        }
        result["identity"] = {
            "shot": means(_rows(first, lambda row: row["age"] > 0 and row["cuts"] == 0)),
            "cut": means(_rows(first, lambda row: row["cuts"] > 0 and row["absence"] == 0)),
        }
        left = [row for film in first for row in film["place_left"]]
        result["place_left"] = {
            verb: means([row for row in left if row["verb"] == verb], LEFT) for verb in ("cut", "scene")
        }
        result["picture"] = _picture(first)
        names = first[0]["unreadable"]
        result["unreadable"] = {
            name: float(np.mean([r["unreadable"][name] for r in first])) for name in names
        }
    if back:
        rows = _rows(back, lambda row: row["segment"] == 2)
        result.setdefault("identity", {})["return"] = means(rows)
    if lasting:
        result.setdefault("identity", {})["long"] = means(_rows(lasting, lambda row: row["age"] > 0))
        result["long_by_age"] = _by_age(lasting)
        result["long_adherence"] = _adherence(lasting)
        result["long_picture"] = _picture(lasting)
    result["films"] = first + back + lasting
    return result


def suite_lines(result: dict) -> list[str]:
    """The result as one line per attribute."""
    lines = []
    for name, share in result.get("adherence", {}).items():
        verbs = {verb: part[name] for verb, part in result["adherence_by_verb"].items() if name in part}
        lines.append(
            f"{name:<8} {percent(share):>6}   " + "  ".join(f"{v} {percent(s)}" for v, s in verbs.items())
        )
    titles = {
        "shot": "identity in a shot",
        "cut": "identity after a cut",
        "return": "identity after a return",
        "long": "identity over a minute",
    }
    for kind, values in result.get("identity", {}).items():
        if values:
            lines.append(_row(titles[kind], {name: values[name] for name in TRAITS}))
    for verb, shares in result.get("place_left", {}).items():
        if shares:
            lines.append(_row(f"place after a {verb}", shares))
    if "long_by_age" in result:
        lines.append(_row("hidden by age", {f"{age} s": v for age, v in result["long_by_age"].items()}))
        lines.append(_row("long adherence", result["long_adherence"]))
    for key, title in (("picture", "picture"), ("long_picture", "picture of long shots")):
        if key in result:
            lines.append(_row(title, result[key], "{:.4f}".format))
    if "unreadable" in result:
        lines.append(_row("unreadable", result["unreadable"]))
    return lines


def _row(title: str, values: Mapping[str, float], write: Callable[[float], str] = percent) -> str:
    return f"{title:<24} " + "  ".join(f"{name} {write(value)}" for name, value in values.items())


def memories(spec: MemorySpec, names: Iterable[str]) -> dict[str, MemorySpec]:
    """Memory settings by name: `own` (the model's), `no_anchors` (the same without global anchors), a preset, or
    `all` presets."""

    known = {"own": spec, "no_anchors": replace(spec, anchor_policy="none"), **PRESETS}
    chosen = {}
    for name in (preset for one in names for preset in (PRESETS if one == "all" else [one])):
        if name not in known:
            raise GroundedError(f"there is no memory called {name!r}", f"choose from all, {', '.join(known)}")
        chosen[name] = known[name]
    return chosen


def in_memory(
    bundle: ModelBundle, memory: MemorySpec, pictures: Mapping[str, Tensor] | None = None
) -> Render:
    """A renderer that keeps the film in memory: fine at 96x64, and without a Take there is nothing to clean up.

    pictures: [1 H W 3] in 0..1 of the cast, by file.
    """

    @torch.no_grad()
    def render(text: str) -> np.ndarray:
        board = parse(text)
        recipe = replace(bundle.recipe, memory=memory, video=replace(bundle.recipe.video, fps=board.fps))
        plan = make_plan(board, Timing.of(recipe, bundle.codec.time_stride))
        with on_threads(bundle.threads_for(recipe)):
            embeds = [rows[None] for rows in bundle.text.encode([s.prompt for s in plan.segments])]
            sampler = bundle.sampler(recipe)
            decoder = bundle.codec.decoder()
            given = {file: bundle.codec.encode(frames)[None] for file, frames in (pictures or {}).items()}
            made = []
            for clean in film_chunks(sampler, Cues(plan, embeds, given)):
                if clean.index in plan.apart:
                    begin_apart(decoder)
                made.append(to_uint8(decoder.decode(clean.latents[0])))
            return np.concatenate(made)

    return render


def measured(path: Path) -> dict[str, Any]:
    """What `path` holds of an earlier run; nothing where it is not there. Raises GroundedError for another file."""
    if not path.exists():
        return {}
    try:
        found = read_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise GroundedError(f"{path} is no result of the suite: {error}", "name another file") from error
    if not isinstance(found, dict) or not all(isinstance(one, dict) for one in found.values()):
        raise GroundedError(f"{path} is no result of the suite", "name another file")
    return found


def main() -> int:
    """Command line: one block of lines per memory."""
    parser = argparse.ArgumentParser(description="judge a built-in model on unseen storyboards")
    parser.add_argument("--model", default="builtin", help="'builtin' or a model's file or folder")
    parser.add_argument(
        "--memory", default="own,no_anchors", help="comma list: own, no_anchors, presets, or all"
    )
    parser.add_argument("--mixed", type=int, default=20, help="storyboards of 5 segments")
    parser.add_argument("--returns", type=int, default=8, help="storyboards that return to a character")
    parser.add_argument("--long", type=int, default=3, help="shots of a minute")
    parser.add_argument("--out", type=Path, help="write all numbers as JSON, and go on from there")
    options = parser.parse_args()
    sets = {name: getattr(options, name) for name in ("mixed", "returns", "long")}

    def judge_all() -> dict[str, Any]:
        bundle = load_model(options.model)
        results = measured(options.out) if options.out else {}
        for name, memory in memories(bundle.recipe.memory, options.memory.split(",")).items():
            made = {"model": bundle.fingerprint, "memory": json.loads(json.dumps(asdict(memory)))}
            done = results.get(name, {})
            if done.get("made") != made or done.get("counts") != sets:
                done = evaluate_suite(in_memory(bundle, memory), **sets)
                results[name] = {"made": made, **done}
                if options.out:
                    write_json(results, options.out)
            print(f"memory: {name}", *suite_lines(results[name]), "", sep="\n", flush=True)
        print(*suite_table(results), sep="\n")
        return results

    return run_command(judge_all, options.out)


if __name__ == "__main__":
    sys.exit(main())
