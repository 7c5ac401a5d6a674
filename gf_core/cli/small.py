"""The commands that hand straight on to the library: inspect, evaluate, drift, open, tidy, bench, train.

What they need is imported when they are called: most of it loads torch, which takes seconds.
"""

from __future__ import annotations

import json
from argparse import Namespace

from ..errors import GroundedError, TakeError
from .files import is_film, read_text
from .settings import model_file


def inspect(args: Namespace) -> int:
    """What is this checkpoint, and what does it want? Prints the report of one file."""
    from ..checkpoints.inspect import inspect_file

    print(inspect_file(model_file(args.file), assume=args.assume))
    return 0


def evaluate(args: Namespace) -> int:
    """Is the film what the storyboard says? Prints the text report; JSON and chart where asked."""
    from ..evaluation.film import evaluate_film
    from ..evaluation.report import text_report

    for path in (args.json, args.chart):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
    print(text_report(evaluate_film(args.film, read_text(args.storyboard), args.json, args.chart)))
    return 0


def drift(args: Namespace) -> int:
    """Does every shot stay what its first second was? Prints a line per shot and draws the chart."""
    from ..evaluation.drift_chart import drift_chart, shot_lines
    from ..evaluation.steadiness import film_parts
    from ..video import probe

    parts = film_parts(args.film)
    image, rows = drift_chart(args.film, parts)
    print(*shot_lines(parts, rows, float(probe(args.film).fps)), sep="\n")
    out = args.out or args.film.with_name(f"{args.film.stem}_drift.png")
    out.parent.mkdir(parents=True, exist_ok=True)
    image.save(out)
    print(f"chart in {out}")
    return 0


def open_film(args: Namespace) -> int:
    """Print the storyboard, and with --settings everything else that the film knows of its making."""
    text = read_text(args.film)
    print(text, end="" if text.endswith("\n") else "\n")
    if args.settings:
        if not is_film(args.film):
            raise GroundedError(f"{args.film} has no settings", "leave --settings away; only films have them")
        from ..engine.recorded import read_recorded

        print(json.dumps(read_recorded(args.film).everything, indent=2, ensure_ascii=False))
    return 0


def tidy(args: Namespace) -> int:
    """The films of a Take's old runs make room: remove them and say how much it was."""
    from ..take.folder import Take, runs_in
    from ..take.tidy import tidy as tidy_take
    from ..words import size

    if not runs_in(args.folder):
        raise TakeError(f"there is no Take at {args.folder}", "give its folder, such as takes/film")
    with Take.open(args.folder) as take:
        done = tidy_take(take, args.keep)
    what = f"{', '.join(done.removed)}: {size(done.freed)} freed" if done.removed else "nothing to remove"
    print(f"{what}; films kept: {done.kept}")
    return 0


def bench(args: Namespace) -> int:
    """Measure a model, or random weights of its shape, on this machine; JSON where asked."""
    from ..checkpoints.bundle import load_model
    from ..evaluation.bench import bench_lines, bundle_subject, measure, random_subject
    from ..files.atomic import write_json
    from ..memory.presets import PRESETS
    from .opening import pick_device, pick_dtype

    device, dtype = pick_device(args.device), pick_dtype(args.dtype)
    memory = PRESETS[args.memory] if args.memory else None
    if args.shape:
        subject = random_subject(args.shape, memory, args.size, device, dtype)
    else:
        subject = bundle_subject(load_model(args.model, dtype=dtype, device=device), memory, args.size)
    result = measure(subject, args.chunks)
    print(*bench_lines(result), sep="\n")
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.json, result)
    return 0


def train(args: Namespace) -> int:
    """Make the built-in model again."""
    from ..train.recipes.builtin import main

    return main(args.rest)
