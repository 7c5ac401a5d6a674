"""The commands of `grounded`: what each is called, takes and says in its help, and how values are read. No torch."""

from __future__ import annotations

import argparse
import math
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any, NamedTuple

from ..arguments import MANY, number, size
from ..config import Fit
from ..errors import GroundedError
from ..estimate.fit import read_fit
from ..memory.presets import PRESETS
from ..timeline.storyboard import MAX_FPS, MAX_SEED
from ..words import read_rate

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
  grounded render film.txt --start-video harbour.mp4       go on from where a video ends
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
render goes on from that take and does not compute it again. For a film, another program's file or '-' the new
storyboard is printed. Give the --seed and --fps that 'grounded takes' was given, if it was.
"""

TIDY = """\
Free disk in a Take: the films of old runs are removed, their latents stay, so that an edit taken back is only decoded
again. Films in films/, unfinished runs and the takes of a segment are left alone.
"""

OPEN = """\
Print the storyboard that is inside a film: what was rendered, to the letter. 'grounded render FILM' makes it again.
Storyboards of other programs (H3-Multishot, LTX Director, ShotStream, FizzNodes, Deforum, EntityBench) are printed as
ours, and one line says what has no counterpart; 'render' and 'plan' take them as they are.
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

EVALUATE = """\
Measure a film of any model, or all films of a folder: whether its end differs from its beginning, whether the borders
of its chunks show, whether its cuts are seen (with the extra 'scenedetect'). A film of the built-in model is read too:
does it follow the prompt, and who stays who, also after how many shots away?
"""

ENCODE = """\
Encode shots to latents for training: every whole clip of every shot becomes a file, with its caption. The shots are a
folder of video files with a text file beside each, or a table (.csv, .json, .jsonl) that names files and captions. What
is there already and whole is kept, so the same command goes on after a stop.
"""

FARM = """\
Render every storyboard (.txt) of a folder: to films/NAME.mp4, each with a Take of its own in takes/NAME. Without --ray
one film after the other; with it, side by side on a Ray cluster that is running, each on a card of its own where the
cluster has cards. Every machine needs this program and sees the same folders. After Ctrl-C, or when a machine was lost,
the same command goes on; a film of the same storyboard that is there is left alone.
"""

FARM_EXAMPLES = """\
examples:
  grounded farm storyboards/
  grounded farm storyboards/ --model longlive_base.pt --ray               the cluster of this machine
  grounded farm storyboards/ --model longlive_base.pt --ray head:6379
"""

TRAININGS = ("builtin", "self_forcing", "longlive", "context_forcing", "grounded_forcing", "ablate", "plan")
TRAIN = """\
Train a model. 'builtin' makes the built-in one again, from nothing. The others are published trainings by distribution
matching, with their papers' values, on prompts of your own. 'ablate' measures what each part of the memory does, with
the weights as they are or trained again. 'plan' says what such a training would take on 1, 8 and 64 cards.
'grounded train WHAT --help' lists the options of each.
"""


def named(text: str) -> str:
    """The name of a file or folder; an empty one, as of a script's empty variable, would be the folder we are in."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it names no file; leave the option away, or give a name")
    return text


def path(text: str) -> Path:
    """`named` as a path."""
    return Path(named(text))


def fps(text: str) -> int | float:
    """`24`, `23.976`, `24000/1001`."""
    try:
        if 1 <= (found := read_rate(text)) <= MAX_FPS:
            return found
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(
        f"'{text}' is not a number from 1 to {MAX_FPS} such as 24, 23.976 or 24000/1001"
    )


def lora(text: str) -> tuple[Path, float]:
    """`file:0.8` or `file`; a colon that no number follows belongs to the path (a Windows drive)."""
    file, colon, strength = text.rpartition(":")
    if colon:
        try:
            value = float(strength)
        except ValueError:
            return path(text), 1.0
        if math.isfinite(value):
            return path(file), value
    return path(text), 1.0


def names(text: str) -> list[str]:
    """`sun, rain` as a list."""
    return [part.strip() for part in text.split(",")]


def fit(text: str) -> Fit | None:
    """`offload=18,tiles=32,int8,fp8`, `off` or `auto`."""
    try:
        return read_fit(text)
    except GroundedError as error:
        raise argparse.ArgumentTypeError(f"{error.message}: {error.fix}") from error


def compiled(text: str) -> bool | None:
    """`on`, `off` or `auto`."""
    try:
        return {"on": True, "off": False, "auto": None}[text]
    except KeyError:
        raise argparse.ArgumentTypeError(f"'{text}' is none of on, off and auto") from None


FILE = {"type": path, "metavar": "FILE"}

OPTIONS: dict[str, dict[str, Any]] = {
    "storyboard": {
        "type": named,
        "help": "a text file, a film, an .otio, another program's storyboard, or - for standard input",
        "metavar": "STORYBOARD",
    },
    "--model": {"type": named, "help": "'builtin', a checkpoint file, or a folder (default: builtin)"},
    "--size": {"type": size, "metavar": "WxH", "help": "film size in pixels (default: the model's)"},
    "--memory": {
        "choices": sorted(PRESETS),
        "metavar": "PRESET",
        "help": f"how the film remembers: {', '.join(PRESETS)} (default: the model's)",
    },
    "--noise": {
        "choices": ("chunk", "comfyui"),
        "help": "each chunk's own, or as ComfyUI's own causal sampler draws it (default: chunk)",
    },
    "--seed": number(0, MAX_SEED, help="seed of the film, in place of @seed"),
    "--fps": {
        "type": fps,
        "metavar": "N",
        "help": "frames per second such as 24 or 23.976, in place of @fps, or of the model's",
    },
    "--upscale": number(1, 16, help="enlarge N times (default: 8 for tiny films, else 1)"),
    "--assume": {
        "metavar": "KIND",
        "help": "take a file of unknown name for this kind of checkpoint, for example self_forcing",
    },
    "--take": {"type": path, "metavar": "DIR", "help": "run folder (default: takes/<the film's name>)"},
    "--start-image": {**FILE, "help": "begin the film from this picture"},
    "--start-video": {**FILE, "help": "go on from the end of this video, with which the film begins"},
    "--vae": {**FILE, "help": "VAE or TAEHV (default: beside the model)"},
    "--text-encoder": {**FILE, "help": "UMT5 (default: beside the model)"},
    "--lora": {
        "type": lora,
        "action": "append",
        "default": [],
        "metavar": "FILE[:STRENGTH]",
        "help": "merge a LoRA into the model; may be repeated",
    },
    "--device": {"help": "cpu, cuda, cuda:1, mps (default: cuda where there is a card, else cpu)"},
    "--parts-on": {
        "metavar": "DEVICE",
        "help": "text encoder and decoder on another device, such as cuda:1 (default: where the network is)",
    },
    "--dtype": {
        "choices": ("float32", "bfloat16", "float16"),
        "help": "number type of the weights (default: float32 on the CPU, bfloat16 elsewhere)",
    },
    "--attention": {
        "metavar": "NAME",
        "help": "who computes attention: flash-attn-4, sdpa-cudnn, sdpa-flash, sdpa, or sage, which rounds to a byte "
        "and makes other pictures (default: the fastest of the others, measured once per card)",
    },
    "--fit": {
        "type": fit,
        "default": None,
        "metavar": "HOW",
        "help": "what is done to save memory: off, or some of offload=N (blocks that stay), tiles=N (16 or more), "
        "int8, fp8 with commas between (default: auto, blocks wait where that is enough; the rest makes other "
        "pictures)",
    },
    "--compile": {
        "type": compiled,
        "default": None,
        "metavar": "auto|on|off",
        "help": "fuse small operations with a compiler, which makes other last bits (default: auto, on a card where "
        "the film is long enough, and as its Take was begun)",
    },
    "--out": {"type": named, "metavar": "FILE", "help": "default: films/<storyboard's name>.mp4"},
    "--until": number(1, MANY, help="stop after segment N of the storyboard; the next render goes on"),
    "--no-sheet": {"action": "store_true", "help": "no contact sheet"},
    "--segment": number(1, MANY, required=True, help="the segment, counted from 1"),
    "--seeds": number(1, 26, help="how many takes (default: as many as names, else 5)"),
    "--names": {
        "type": names,
        "default": [],
        "metavar": "A,B,...",
        "help": "what they are called (default: a, b, c ...)",
    },
    "--keep": number(1, MANY, default=1, help="newest runs whose films stay (default: 1)"),
    "--settings": {
        "action": "store_true",
        "help": "print model, memory, sampler, size, seeds and versions too, as JSON",
    },
    "--shape": {"choices": ("tiny", "1.3b", "14b"), "help": "random weights of this shape instead"},
    "--chunks": number(2, MANY, default=12, help="chunks to make (default: 12)"),
    "--json": {**FILE, "help": "write every number as JSON too"},
    "--chart": {**FILE, "help": "where to draw the numbers (PNG)"},
}
"""Every option that more than one command has or whose name says it all, as argparse wants it."""

FILM = ("storyboard", "--model", "--size", "--memory", "--noise", "--seed", "--fps", "--upscale", "--assume")
DEVICE = ("--device", "--dtype")
PARTS = ("--vae", "--text-encoder")
START = ["--start-image", "--start-video"]
MAKING = ("--take", START, *PARTS, "--lora", *DEVICE, "--parts-on", "--attention", "--fit", "--compile")


class Command(NamedTuple):
    """One command: the function that does it, its line in the list of commands, its arguments, its help."""

    run: str
    """`module:function`, imported when it is called: most need torch, which takes seconds to load."""
    help: str
    arguments: tuple[Any, ...]
    """Names in `OPTIONS`, (name, argparse's words for it), or a list of names of which one may be given."""
    description: str = ""
    """By default the help as a sentence."""
    examples: str = ""


def _file(name: str, help: str, **words: Any) -> tuple[str, dict[str, Any]]:
    return name, {"type": path, "metavar": name.upper(), "help": help, **words}


def _python(option: str, what: str) -> tuple[str, dict[str, Any]]:
    return option, {
        **FILE,
        "metavar": "PYTHON",
        "help": f"python of an environment with {what}: its scores too",
    }


COMMANDS = {
    "render": Command(
        "render:render",
        "render a storyboard to a video file",
        (*FILM, "--out", "--until", *MAKING, "--no-sheet"),
        RENDER,
        RENDER_EXAMPLES,
    ),
    "plan": Command(
        "plan:plan",
        "show what a storyboard will become and cost",
        (*FILM, START, *PARTS, *DEVICE, "--parts-on", "--attention", "--fit", "--compile"),
        PLAN,
    ),
    "takes": Command(
        "render:takes",
        "render several takes of one segment",
        (*FILM, "--segment", "--seeds", "--names", *MAKING),
        TAKES,
        TAKES_EXAMPLES,
    ),
    "farm": Command(
        "farm:farm",
        "render every storyboard of a folder",
        (
            _file("folder", "a folder of storyboards"),
            *FILM[1:],
            ("--out", {"type": path, "metavar": "DIR", "help": "where the films go (default: films)"}),
            *PARTS,
            "--lora",
            *DEVICE,
            "--parts-on",
            "--attention",
            "--fit",
            "--compile",
            "--no-sheet",
            (
                "--ray",
                {
                    "nargs": "?",
                    "const": "auto",
                    "metavar": "ADDRESS",
                    "help": "on this Ray cluster (no address: auto)",
                },
            ),
        ),
        FARM,
        FARM_EXAMPLES,
    ),
    "pick": Command(
        "render:pick",
        "write a take's seed into the storyboard",
        (
            (
                "storyboard",
                {"type": named, "metavar": "STORYBOARD", "help": "the one that the takes were made from"},
            ),
            ("segment", number(1, MANY, metavar="SEGMENT", help="counted from 1")),
            ("name", {"metavar": "NAME", "help": "the take's name"}),
            *("--take", "--seed", "--fps"),
        ),
        PICK,
    ),
    "tidy": Command(
        "small:tidy",
        "remove the films of a Take's old runs",
        (
            ("folder", {"type": path, "metavar": "TAKE", "help": "the Take's folder, such as takes/film"}),
            "--keep",
        ),
        TIDY,
    ),
    "open": Command(
        "small:open_film",
        "print the storyboard that a film carries",
        (
            _file("film", "a film, an edit (.otio, .edl), or another program's storyboard", type=named),
            "--settings",
            "--fps",
        ),
        OPEN,
    ),
    "export": Command(
        "small:export",
        "write a film's cut for an editing program",
        (
            _file("source", "a film made by this program, or a storyboard", type=named),
            _file("out", "the edit: .otio, .edl or .fcpxml"),
        ),
        EXPORT,
    ),
    "inspect": Command(
        "small:inspect",
        "say what a checkpoint file is and what it wants",
        (
            _file("file", "a checkpoint file, a diffusers folder, or 'builtin'", type=named, nargs="?"),
            "--assume",
            ("--list", {"action": "store_true", "help": "print every checkpoint that is known instead"}),
        ),
    ),
    "bench": Command(
        "small:bench",
        "measure a model on this machine",
        (["--model", "--shape"], "--size", "--memory", "--chunks", "--json", *DEVICE),
        BENCH,
        BENCH_EXAMPLES,
    ),
    "train": Command(
        "small:train",
        "train a model, or say what it would take",
        (
            (
                "what",
                {"choices": TRAININGS, "metavar": "WHAT", "help": ", ".join(TRAININGS)},
            ),
            ("rest", {"nargs": argparse.REMAINDER, "help": "options of the training: --help lists them"}),
        ),
        TRAIN,
    ),
    "encode": Command(
        "data:encode",
        "encode shots with captions to latents for training",
        (
            _file("shots", "a folder of videos with captions, or a table of them"),
            ("--out", {"type": path, "metavar": "DIR", "required": True, "help": "where the latents go"}),
            *("--model", "--vae", "--size", "--fps"),
            ("--frames", number(1, MANY, default=81, help="pictures in a clip, 4 n + 1 (default: 81)")),
            *DEVICE,
        ),
        ENCODE,
    ),
    "evaluate": Command(
        "evaluate:evaluate",
        "measure a film, or all films of a folder",
        (
            _file("film", "a film of any model, or a folder of films"),
            (
                "--storyboard",
                {
                    "type": named,
                    "metavar": "FILE",
                    "help": "what it was made from (default: what the film says)",
                },
            ),
            "--json",
            "--chart",
            _python("--vbench", "VBench"),
            _python("--vbench-long", "VBench-Long"),
        ),
        EVALUATE,
    ),
    "drift": Command(
        "small:drift",
        "chart how far every shot drifts from its first second",
        (_file("film", "a film, of any model"), _file("out", "PNG (default: beside the film)", nargs="?")),
    ),
}


def build_parser() -> ArgumentParser:
    """The whole command line; `args.command` names the command, or is None."""
    parser = _Parser(prog="grounded", description=DESCRIPTION, epilog=EXAMPLES)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, command in COMMANDS.items():
        description = command.description or f"{command.help[0].upper()}{command.help[1:]}."
        child = commands.add_parser(name, help=command.help, description=description, epilog=command.examples)
        for argument in command.arguments:
            if isinstance(argument, list):
                group = child.add_mutually_exclusive_group()
                for option in argument:
                    group.add_argument(option, **OPTIONS[option])
            else:
                option, words = (argument, OPTIONS[argument]) if isinstance(argument, str) else argument
                child.add_argument(option, **words)
    return parser


class _Parser(ArgumentParser):
    def __init__(self, **kwargs) -> None:
        super().__init__(formatter_class=_Help, allow_abbrev=False, **kwargs)


class _Help(RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=110)
