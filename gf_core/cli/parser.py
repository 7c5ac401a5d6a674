"""Arguments of `grounded` and the help that explains them."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

from ..memory.presets import PRESETS
from ..timeline.storyboard import MAX_FPS, MAX_SEED
from .arguments import (
    add_assume,
    add_device_arguments,
    add_film_arguments,
    add_making_arguments,
    add_take,
    names,
    size,
    whole,
)

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

TAKES = """\
Render several takes of one segment, each with its own seed. What comes before the segment is used as it is, so only the
segment itself is computed. Clips of it and a contact sheet go into the Take's folder; 'grounded pick' keeps one.
"""

TAKES_EXAMPLES = """\
examples:
  grounded takes film.txt --segment 4                      five takes, called a to e; a is the storyboard's own
  grounded takes film.txt --segment 4 --seeds 9            four more; what is there is not made again
  grounded pick film.txt 4 c                               write c's seed into film.txt
  grounded render film.txt                                 the whole film, going on from c
"""

PICK = """\
Write the seed of a take into the storyboard's line: the text is the truth, and nothing else in it changes. The next
render goes on from that take and does not compute it again. For a film, an edit or '-' the new storyboard is printed.
"""

TIDY = """\
Free disk in a Take: the films of old runs are removed, their latents stay, so that an edit taken back is only decoded
again. Films in films/, unfinished runs and the takes of a segment are left alone.
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
    _add_takes(commands)
    _add_pick(commands)
    _add_tidy(commands)
    _add_open(commands)
    _add_export(commands)
    inspect = _command(commands, "inspect", "say what a checkpoint file is and what it wants")
    inspect.add_argument("file", metavar="FILE", help="a checkpoint file, a diffusers folder, or 'builtin'")
    add_assume(inspect)
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


def _add_render(commands) -> None:
    parser = _command(commands, "render", "render a storyboard to a video file", RENDER, RENDER_EXAMPLES)
    add_film_arguments(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: films/<storyboard's name>.mp4")
    parser.add_argument(
        "--until",
        type=whole(1, 100_000),
        metavar="N",
        help="stop after segment N of the storyboard; the next render goes on",
    )
    add_making_arguments(parser)
    parser.add_argument("--no-sheet", action="store_true", help="no contact sheet")


def _add_plan(commands) -> None:
    parser = _command(commands, "plan", "show what a storyboard will become and cost", PLAN)
    add_film_arguments(parser)
    parser.add_argument(
        "--device", help="device to estimate for (default: cuda where there is a card, else cpu)"
    )


def _add_takes(commands) -> None:
    parser = _command(commands, "takes", "render several takes of one segment", TAKES, TAKES_EXAMPLES)
    add_film_arguments(parser)
    parser.add_argument(
        "--segment", type=whole(1, 100_000), required=True, metavar="N", help="the segment, counted from 1"
    )
    parser.add_argument(
        "--seeds", type=whole(1, 26), metavar="N", help="how many takes (default: as many as names, else 5)"
    )
    parser.add_argument(
        "--names",
        type=names,
        default=[],
        metavar="A,B,...",
        help="what they are called (default: a, b, c ...)",
    )
    add_making_arguments(parser)


def _add_pick(commands) -> None:
    parser = _command(commands, "pick", "write a take's seed into the storyboard", PICK)
    parser.add_argument("storyboard", metavar="STORYBOARD", help="the one that the takes were made from")
    parser.add_argument("segment", type=whole(1, 100_000), metavar="SEGMENT", help="counted from 1")
    parser.add_argument("name", metavar="NAME", help="the take's name")
    add_take(parser)
    parser.add_argument(
        "--seed", type=whole(0, MAX_SEED), metavar="N", help="as given to takes, if it was: the film's seed"
    )
    parser.add_argument("--fps", type=whole(1, MAX_FPS), metavar="N", help="as given to takes, if it was")


def _add_tidy(commands) -> None:
    parser = _command(commands, "tidy", "remove the films of a Take's old runs", TIDY)
    parser.add_argument("folder", metavar="TAKE", type=Path, help="the Take's folder, such as takes/film")
    parser.add_argument(
        "--keep",
        type=whole(1, 100_000),
        default=1,
        metavar="N",
        help="newest runs whose films stay (default: 1)",
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
        "--chunks", type=whole(2, 100_000), default=12, metavar="N", help="chunks to make (default: 12)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers as JSON too")
    add_device_arguments(parser)


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
