"""Arguments of `grounded` and the help that explains them."""

from __future__ import annotations

import argparse
import math
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

from ..memory.presets import PRESETS
from ..timeline.storyboard import MAX_FPS, MAX_SEED

DESCRIPTION = "Long multi-shot video from a storyboard, on causal Wan-family models."

EXAMPLES = """\
examples:
  grounded plan workflows/storyboards/first_film.txt       what it will be, before anything is computed
  grounded render workflows/storyboards/first_film.txt     make it, with the built-in model
  grounded render film.txt --model longlive_base.pt --size 832x480
  grounded inspect longlive_base.pt                        what is this file, and can it be used?

A storyboard is text, one line per segment: docs/storyboard.md. A first one:
  a red fox walks right in a meadow at noon  | 5s
  then: it jumps                             | 4s
  cut: the same red fox sleeps in the snow at night | 4s
"""

RENDER = """\
Render a storyboard to a video file, with a contact sheet and a report beside it. The film grows on disk while it
is made: after Ctrl-C, a crash or a power cut everything finished so far plays, and the same command goes on from
there. After an edit of the storyboard only what comes after the change is made anew. Nothing is ever overwritten.
"""

RENDER_EXAMPLES = """\
examples:
  grounded render film.txt
  grounded render film.txt --seed 12 --out films/second_try.mp4
  grounded render film.txt --model longlive_base.pt --memory longlive --size 832x480
  grounded render film.txt --model self_forcing_dmd.pt --start-image harbour.png
  grounded render films/film.mp4                           the same film again, from what it carries
"""

PLAN = """\
Show what a storyboard becomes before anything is computed: lengths after snapping to whole chunks, seeds, and what
memory, disk and time it will take. Exit status 2 if the storyboard cannot be read.
"""

OPEN = """\
Print the storyboard that is inside a film: what was rendered, to the letter. 'grounded render FILM' makes it again.
"""

EXPORT = """\
Write the cut as OpenTimelineIO (.otio), an edit decision list (.edl) or Final Cut XML (.fcpxml): one clip per segment,
pointing into the film. An .otio keeps everything: 'grounded open CUT.otio' gives the storyboard back, with what was
moved, trimmed or disabled in the editing program. Needs OpenTimelineIO, and for .edl and .fcpxml its plugins.
"""

BENCH = """\
Measure a model on this machine: seconds per stage, frames per second, memory. With --shape the weights are random,
so that nothing has to be downloaded to know how fast a model of that size would be here.
"""

BENCH_EXAMPLES = """\
examples:
  grounded bench
  grounded bench --model longlive_base.pt --device cuda
  grounded bench --shape 1.3b --device cuda --dtype bfloat16 --size 832x480
"""

TRAIN = "Make the built-in model again, from nothing: grounded train builtin --help lists its stages."


def build_parser() -> ArgumentParser:
    """The whole command line; `args.command` names the command, or is None."""
    parser = _Parser(prog="grounded", description=DESCRIPTION, epilog=EXAMPLES)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_render(commands)
    _add_plan(commands)
    _add_open(commands)
    _add_export(commands)
    inspect = _command(commands, "inspect", "say what a checkpoint file is and what it wants")
    inspect.add_argument("file", metavar="FILE", help="a checkpoint file, a diffusers folder, or 'builtin'")
    _add_assume(inspect)
    _add_bench(commands)
    _add_train(commands)
    _add_evaluate(commands)
    _add_drift(commands)
    return parser


class _Parser(ArgumentParser):
    def __init__(self, **kwargs) -> None:
        super().__init__(formatter_class=_Help, allow_abbrev=False, **kwargs)


class _Help(RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=110)


def _command(commands, name: str, help: str, description: str = "", examples: str = "") -> ArgumentParser:
    return commands.add_parser(name, help=help, description=description or _sentence(help), epilog=examples)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _add_film_arguments(parser: ArgumentParser) -> None:
    """What `render` and `plan` share."""
    parser.add_argument(
        "storyboard", metavar="STORYBOARD", help="a text file, a film, an .otio, or - for standard input"
    )
    parser.add_argument("--model", help="'builtin', a checkpoint file, or a folder (default: builtin)")
    parser.add_argument("--size", type=size, metavar="WxH", help="film size in pixels (default: the model's)")
    parser.add_argument(
        "--memory",
        choices=sorted(PRESETS),
        metavar="PRESET",
        help=f"how the film remembers: {', '.join(PRESETS)} (default: the model's)",
    )
    parser.add_argument(
        "--seed", type=_whole(0, MAX_SEED), metavar="N", help="seed of the film, in place of @seed"
    )
    parser.add_argument(
        "--fps", type=_whole(1, MAX_FPS), metavar="N", help="frames per second, in place of @fps"
    )
    parser.add_argument(
        "--upscale",
        type=_whole(1, 16),
        metavar="N",
        help="enlarge N times (default: 8 for tiny films, else 1)",
    )
    _add_assume(parser)


def _add_assume(parser: ArgumentParser) -> None:
    help = "take a file of unknown name for this kind of checkpoint, for example self_forcing"
    parser.add_argument("--assume", metavar="KIND", help=help)


def _add_device_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--device", help="cpu, cuda, cuda:1, mps (default: cuda where there is a card, else cpu)"
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        help="number type of the weights (default: float32 on the CPU, bfloat16 elsewhere)",
    )


def _add_render(commands) -> None:
    parser = _command(commands, "render", "render a storyboard to a video file", RENDER, RENDER_EXAMPLES)
    _add_film_arguments(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: films/<storyboard's name>.mp4")
    parser.add_argument(
        "--take", type=Path, metavar="DIR", help="run folder (default: takes/<the film's name>)"
    )
    parser.add_argument("--start-image", type=Path, metavar="FILE", help="begin the film from this picture")
    parser.add_argument(
        "--until",
        type=_whole(1, 100_000),
        metavar="N",
        help="stop after segment N of the storyboard; the next render goes on",
    )
    parser.add_argument("--vae", type=Path, metavar="FILE", help="VAE or TAEHV (default: beside the model)")
    parser.add_argument("--text-encoder", type=Path, metavar="FILE", help="UMT5 (default: beside the model)")
    parser.add_argument(
        "--lora",
        type=_lora,
        action="append",
        default=[],
        metavar="FILE[:STRENGTH]",
        help="merge a LoRA into the model; may be repeated",
    )
    parser.add_argument("--no-sheet", action="store_true", help="no contact sheet")
    _add_device_arguments(parser)


def _add_plan(commands) -> None:
    parser = _command(commands, "plan", "show what a storyboard will become and cost", PLAN)
    _add_film_arguments(parser)
    parser.add_argument(
        "--device", help="device to estimate for (default: cuda where there is a card, else cpu)"
    )


def _add_open(commands) -> None:
    parser = _command(commands, "open", "print the storyboard that a film carries", OPEN)
    parser.add_argument("film", metavar="FILM", help="a film made by this program, or an edit (.otio, .edl)")
    parser.add_argument(
        "--settings",
        action="store_true",
        help="print model, memory, sampler, size, seeds and versions too, as JSON",
    )


def _add_export(commands) -> None:
    parser = _command(commands, "export", "write a film's cut for an editing program", EXPORT)
    parser.add_argument("source", metavar="SOURCE", help="a film made by this program, or a storyboard")
    parser.add_argument("out", metavar="OUT", type=Path, help="the edit: .otio, .edl or .fcpxml")


def _add_bench(commands) -> None:
    parser = _command(commands, "bench", "measure a model on this machine", BENCH, BENCH_EXAMPLES)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--model", default="builtin", help="'builtin', or a checkpoint (default: builtin)")
    what.add_argument("--shape", choices=("tiny", "1.3b", "14b"), help="random weights of this shape instead")
    parser.add_argument("--size", type=size, metavar="WxH", help="film size in pixels")
    parser.add_argument("--memory", choices=sorted(PRESETS), metavar="PRESET", help="memory preset")
    parser.add_argument(
        "--chunks", type=_whole(2, 100_000), default=12, metavar="N", help="chunks to make (default: 12)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers as JSON too")
    _add_device_arguments(parser)


def _add_train(commands) -> None:
    parser = _command(commands, "train", "make the built-in model again", TRAIN)
    parser.add_argument("what", choices=("builtin",), help="the model to train")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="options of the training: --help lists them")


def _add_evaluate(commands) -> None:
    help = "judge a film of the built-in model against its storyboard"
    parser = _command(commands, "evaluate", help)
    parser.add_argument("film", metavar="FILM", type=Path, help="the video file")
    parser.add_argument("--storyboard", metavar="FILE", required=True, help="the storyboard it was made from")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write every number")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="where to draw them (PNG)")


def _add_drift(commands) -> None:
    help = "chart how far every shot drifts from its first second"
    parser = _command(commands, "drift", help)
    parser.add_argument("film", metavar="FILM", type=Path, help="a film, of any model")
    parser.add_argument("out", metavar="OUT", type=Path, nargs="?", help="PNG (default: beside the film)")


def size(text: str) -> tuple[int, int]:
    """`832x480` as (width, height)."""
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal() and 16 <= int(width) <= 8192):
        raise argparse.ArgumentTypeError(f"'{text}' is not a size such as 832x480")
    if not 16 <= int(height) <= 8192:
        raise argparse.ArgumentTypeError(f"'{text}' is not between 16 and 8192 pixels high")
    return int(width), int(height)


def _whole(smallest: int, largest: int):
    def read(text: str) -> int:
        if not (text.isdecimal() and smallest <= int(text) <= largest):
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from {smallest} to {largest}")
        return int(text)

    return read


def _lora(text: str) -> tuple[Path, float]:
    """`file:0.8` or `file`; a colon that no number follows belongs to the path (a Windows drive)."""
    path, colon, strength = text.rpartition(":")
    if colon:
        try:
            value = float(strength)
        except ValueError:
            return Path(text), 1.0
        if math.isfinite(value):
            return Path(path), value
    return Path(text), 1.0
