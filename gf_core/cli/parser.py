"""The commands of `grounded`: what each is called, takes and says in its help. No torch."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser
from functools import cache
from typing import Any, NamedTuple

from ..arguments import MANY, Parser, number
from . import texts
from .options import FILE, OPTIONS, named, path

TRAININGS = (
    "builtin", "self_forcing", "rolling_forcing", "longlive", "context_forcing", "grounded_forcing", "ablate", "plan",
)  # fmt: skip
FILM = ("storyboard", "--model", "--size", "--memory", "--noise", "--seed", "--fps", "--upscale", "--assume")
DEVICE = ("--device", "--dtype")
PARTS = ("--vae", "--text-encoder")
START = ["--start-image", "--start-video"]
COMPUTING = (*DEVICE, "--parts-on", "--attention", "--fit", "--compile")
MAKING = ("--take", START, *PARTS, "--lora", *COMPUTING)
RENDERED = (*FILM, "--out", "--until", *MAKING, "--no-sheet")


class Command(NamedTuple):
    """One command: the function that does it, its line in the list of commands, its arguments."""

    run: str
    """`module:function`, imported when it is called: most need torch, which takes seconds to load."""
    help: str
    arguments: tuple[Any, ...]
    """Names in `OPTIONS`, (name, argparse's words for it), or a list of names of which one may be given."""


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
        RENDERED,
    ),
    "watch": Command(
        "watch:watch",
        "render a storyboard again whenever it is saved",
        RENDERED,
    ),
    "plan": Command(
        "plan:plan",
        "show what a storyboard will become and cost",
        RENDERED,
    ),
    "takes": Command(
        "render:takes",
        "render several takes of one segment",
        (*FILM, "--segment", "--seeds", "--names", *MAKING),
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
            *COMPUTING,
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
    ),
    "pick": Command(
        "render:pick",
        "write a take's seed into the storyboard",
        (
            _file("storyboard", "the one that the takes were made from", type=named),
            ("segment", number(1, MANY, metavar="SEGMENT", help="counted from 1")),
            ("name", {"metavar": "NAME", "help": "the take's name"}),
            *("--take", "--seed", "--fps"),
        ),
    ),
    "tidy": Command(
        "small:tidy",
        "remove the films of a Take's old runs",
        (
            ("folder", {"type": path, "metavar": "TAKE", "help": "the Take's folder, such as takes/film"}),
            "--keep",
        ),
    ),
    "open": Command(
        "small:open_film",
        "print the storyboard that a film carries",
        (
            _file("film", "a film, an edit (.otio, .edl), or another program's storyboard", type=named),
            "--settings",
            "--fps",
        ),
    ),
    "export": Command(
        "small:export",
        "write a film's cut for an editing program",
        (
            _file("source", "a film made by this program, or a storyboard", type=named),
            _file("out", "the edit: .otio, .edl or .fcpxml"),
        ),
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
    ),
    "train": Command(
        "small:train",
        "train a model, or say what it would take",
        (
            ("what", {"choices": TRAININGS, "metavar": "WHAT", "help": ", ".join(TRAININGS)}),
            ("rest", {"nargs": argparse.REMAINDER, "help": "options of the training: --help lists them"}),
        ),
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
    ),
    "drift": Command(
        "evaluate:drift",
        "chart how far every shot drifts from its first second",
        (_file("film", "a film, of any model"), _file("out", "PNG (default: beside the film)", nargs="?")),
    ),
}


@cache
def build_parser() -> ArgumentParser:
    """The whole command line; `args.command` names the command, or is None."""
    parser = Parser(prog="grounded", description=texts.DESCRIPTION, epilog=texts.EXAMPLES)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, command in COMMANDS.items():
        above, examples, below = texts.HELP[name].partition("examples:")
        description = above or f"{command.help[0].upper()}{command.help[1:]}."
        child = commands.add_parser(name, help=command.help, description=description, epilog=examples + below)
        for argument in command.arguments:
            if isinstance(argument, list):
                group = child.add_mutually_exclusive_group()
                for option in argument:
                    group.add_argument(option, **OPTIONS[option])
            else:
                option, words = (argument, OPTIONS[argument]) if isinstance(argument, str) else argument
                action = child.add_argument(option, **words)
                action.required = action.required and action.nargs != argparse.REMAINDER
    return parser
