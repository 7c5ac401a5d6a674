"""The commands that hand straight on to the library: inspect, open, export, tidy, bench, train.

What they need is imported when they are called: most of it loads torch, which takes seconds.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from ..builtin import model_file
from ..editorial import Span, write_edit
from ..errors import CheckpointError, GroundedError, TakeError
from ..timeline import Storyboard, format_storyboard, make_plan, parse
from ..words import counted, size
from .files import is_film, parse_file, read_text
from .terminal import print_text

log = logging.getLogger("grounded")


def inspect(args: Namespace) -> int:
    """What is this checkpoint, and what does it want? Prints the report of one file, or the whole catalogue."""
    if args.list:
        from ..checkpoints.catalog import lines

        print(*lines(), sep="\n")
        return 0
    if args.file is None:
        raise GroundedError(
            "there is no file to look at", "name one, or give --list for those that are known"
        )
    from ..checkpoints.absent import refuse_missing
    from ..checkpoints.catalog import by_id

    if not os.path.lexists(args.file) and (row := by_id(args.file)):
        raise CheckpointError(
            f"{row.id} is the name of a published checkpoint, {row.title}, and no file here",
            f"download {row.file} from https://huggingface.co/{row.repository}, and give its path",
        )
    refuse_missing(model_file(args.file))
    from ..checkpoints.inspect import inspect_file

    print(inspect_file(model_file(args.file), assume=args.assume))
    return 0


def open_film(args: Namespace) -> int:
    """Print the storyboard; with --settings, as JSON, all else that the film knows of its making, and the storyboard
    beside it, where errors go."""
    text = read_text(args.film, args.fps)
    if args.settings and not is_film(args.film):
        raise GroundedError(f"{args.film} has no settings", "leave --settings away; only films have them")
    if not is_film(args.film):  # what a film carries is told to the letter, whatever it is
        parse_file(text, args.film)
    if args.fps is not None:
        text = format_storyboard(replace(parse(text), fps=args.fps))
    if not args.settings:
        print_text(text)
        return 0
    from ..engine.recorded import read_recorded

    settings = json.dumps(read_recorded(args.film).everything, indent=2, ensure_ascii=False)
    print(text.rstrip("\n"), file=sys.stderr)
    print_text(settings)
    return 0


def export(args: Namespace) -> int:
    """Write the edit and say where it is; what lies there stays."""
    from ..video.place import free_name

    board, out = parse(read_text(args.source)), free_name(args.out)
    film = Path(args.source) if is_film(args.source) else None
    spans = _film_spans(board, film) if film is not None else _planned_spans(board)
    write_edit(board, spans, out, _beside(film, out))
    print(f"{counted(len(spans), 'clip')} in {out}")
    if out.suffix.lower() != ".otio":
        print(f"{out.suffix} has neither verbs nor seeds: read back, each clip is a 'cut:'; .otio keeps them")
    return 0


def _planned_spans(board: Storyboard) -> list[Span]:
    """Where the segments will be."""
    return [Span(part.index, part.start_frame, part.frames) for part in make_plan(board).segments]


def _film_spans(board: Storyboard, film: Path) -> list[Span]:
    """Where the segments are, by the film's chapters; a stopped film has fewer of them than its storyboard.

    Another program may have left the chapters out, or cut the film and left them as they were.
    """
    from ..video import probe, read_chapters

    info, spans = probe(film), _planned_spans(board)
    if chapters := read_chapters(film):
        edges = [[round(at * info.fps) for at in (one.start_seconds, one.end_seconds)] for one in chapters]
        spans = [Span(part.index, start, end - start) for part, (start, end) in zip(spans, edges)]
    else:
        log.warning("%s has no chapters any more: its clips lie where the storyboard plans them", film.name)
    seen = [replace(s, frames=min(s.frames, info.frames - s.start)) for s in spans if s.start < info.frames]
    if seen != spans:
        log.warning("%s is shorter than its segments: what lies behind its end is left out", film.name)
    return seen


def _beside(film: Path | None, out: Path) -> str | None:
    """The film's place as seen from the edit, so that both can be moved together."""
    if film is None:
        return None
    try:
        return Path(os.path.relpath(film, out.parent)).as_posix()
    except ValueError:  # another drive
        return film.resolve().as_posix()


def tidy(args: Namespace) -> int:
    """The films of a Take's old runs make room: remove them and say how much it was."""
    from ..take.folder import Take
    from ..take.run import runs_in
    from ..take.tidy import tidy as tidy_take

    if not runs_in(args.folder):
        raise TakeError(f"there is no Take at {args.folder}", "give its folder, such as takes/film")
    with Take.open(args.folder) as take:
        done = tidy_take(take, args.keep)
    what = f"{', '.join(done.removed)}: {size(done.freed)} freed" if done.removed else "nothing to remove"
    print(
        f"{what}; {counted(done.kept, 'run')} of {args.folder.as_posix()} with a film, takes of segments included"
    )
    return 0


def bench(args: Namespace) -> int:
    """Measure a model, or random weights of its shape, on this machine; JSON where asked."""
    import torch

    from ..checkpoints.bundle import load_model
    from ..devices import on_threads, pick_device
    from ..evaluation.bench import bench_lines, bundle_subject, measure, random_subject
    from ..files.atomic import check_file, write_json
    from ..memory.presets import PRESETS

    if args.json:
        check_file(args.json)
    device, dtype = pick_device(args.device), getattr(torch, args.dtype) if args.dtype else None
    memory = PRESETS[args.memory] if args.memory else None
    if args.shape:
        result = measure(random_subject(args.shape, memory, args.size, device, dtype), args.chunks)
    else:
        bundle = load_model(args.model or "builtin", dtype=dtype, device=device)
        subject = bundle_subject(bundle, memory, args.size)
        with on_threads(bundle.threads_for(subject.recipe)):
            result = measure(subject, args.chunks)
    print(*bench_lines(result), sep="\n")
    if args.json:
        write_json(args.json, result)
    return 0


def train(args: Namespace) -> int:
    """Train, or say what it would take."""
    if args.what == "plan":
        from .trainings.plan import main
    elif args.what == "ablate":
        from .trainings.ablate import main
    elif args.what == "builtin":
        from ..train.recipes.builtin import main
    else:
        from ..train.recipes.matching import main as train_matching

        return train_matching(args.what, args.rest)
    return main(args.rest)
