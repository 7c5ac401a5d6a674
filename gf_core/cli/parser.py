"""The commands of `grounded`: what each is called, takes and says in its help. No torch."""

from __future__ import annotations

import argparse
import difflib
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from ..arguments import MANY, number
from . import texts
from .options import FILE, OPTIONS, named, path

TRAININGS = ("builtin", "self_forcing", "longlive", "context_forcing", "grounded_forcing", "ablate", "plan")
FILM = ("storyboard", "--model", "--size", "--memory", "--noise", "--seed", "--fps", "--upscale", "--assume")
DEVICE = ("--device", "--dtype")
PARTS = ("--vae", "--text-encoder")
START = ["--start-image", "--start-video"]
COMPUTING = (*DEVICE, "--parts-on", "--attention", "--fit", "--compile")
MAKING = ("--take", START, *PARTS, "--lora", *COMPUTING)


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
        texts.RENDER,
        texts.RENDER_EXAMPLES,
    ),
    "plan": Command(
        "plan:plan",
        "show what a storyboard will become and cost",
        (*FILM, "--take", START, *PARTS, *COMPUTING),
        texts.PLAN,
        texts.PLAN_EXAMPLES,
    ),
    "takes": Command(
        "render:takes",
        "render several takes of one segment",
        (*FILM, "--segment", "--seeds", "--names", *MAKING),
        texts.TAKES,
        texts.TAKES_EXAMPLES,
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
        texts.FARM,
        texts.FARM_EXAMPLES,
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
        texts.PICK,
        texts.PICK_EXAMPLES,
    ),
    "tidy": Command(
        "small:tidy",
        "remove the films of a Take's old runs",
        (
            ("folder", {"type": path, "metavar": "TAKE", "help": "the Take's folder, such as takes/film"}),
            "--keep",
        ),
        texts.TIDY,
        texts.TIDY_EXAMPLES,
    ),
    "open": Command(
        "small:open_film",
        "print the storyboard that a film carries",
        (
            _file("film", "a film, an edit (.otio, .edl), or another program's storyboard", type=named),
            "--settings",
            "--fps",
        ),
        texts.OPEN,
        texts.OPEN_EXAMPLES,
    ),
    "export": Command(
        "small:export",
        "write a film's cut for an editing program",
        (
            _file("source", "a film made by this program, or a storyboard", type=named),
            _file("out", "the edit: .otio, .edl or .fcpxml"),
        ),
        texts.EXPORT,
        texts.EXPORT_EXAMPLES,
    ),
    "inspect": Command(
        "small:inspect",
        "say what a checkpoint file is and what it wants",
        (
            _file("file", "a checkpoint file, a diffusers folder, or 'builtin'", type=named, nargs="?"),
            "--assume",
            ("--list", {"action": "store_true", "help": "print every checkpoint that is known instead"}),
        ),
        examples=texts.INSPECT_EXAMPLES,
    ),
    "bench": Command(
        "small:bench",
        "measure a model on this machine",
        (["--model", "--shape"], "--size", "--memory", "--chunks", "--json", *DEVICE),
        texts.BENCH,
        texts.BENCH_EXAMPLES,
    ),
    "train": Command(
        "small:train",
        "train a model, or say what it would take",
        (
            ("what", {"choices": TRAININGS, "metavar": "WHAT", "help": ", ".join(TRAININGS)}),
            ("rest", {"nargs": argparse.REMAINDER, "help": "options of the training: --help lists them"}),
        ),
        texts.TRAIN,
        texts.TRAIN_EXAMPLES,
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
        texts.ENCODE,
        texts.ENCODE_EXAMPLES,
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
        texts.EVALUATE,
        texts.EVALUATE_EXAMPLES,
    ),
    "drift": Command(
        "small:drift",
        "chart how far every shot drifts from its first second",
        (_file("film", "a film, of any model"), _file("out", "PNG (default: beside the film)", nargs="?")),
        examples=texts.DRIFT_EXAMPLES,
    ),
}


@cache
def build_parser() -> ArgumentParser:
    """The whole command line; `args.command` names the command, or is None."""
    parser = _Parser(prog="grounded", description=texts.DESCRIPTION, epilog=texts.EXAMPLES)
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

    def parse_known_args(self, *given: Any, **words: Any) -> Any:
        """A command refuses by itself what it does not know, so that its own usage is shown and not the program's."""
        found, unknown = super().parse_known_args(*given, **words)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}", self._meant(unknown, found))
        return found, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            near = difflib.get_close_matches(str(value), map(str, action.choices or ()), 1)
            self.error(str(error), f"did you mean {near[0]}?" if near else "")

    def error(self, message: str, fix: str = "") -> NoReturn:
        """End with what is wrong; `fix` says what to do, where that is known."""
        super().error(message + (f"\n  fix: {fix}" if fix else ""))

    def _meant(self, unknown: Sequence[str], found: argparse.Namespace) -> str:
        """What was most likely meant by words that nothing takes; empty where that is not known."""
        for word in unknown:
            if word.startswith("-"):
                near = difflib.get_close_matches(word.partition("=")[0], self._option_string_actions, 1)
                return f"did you mean {near[0]}?" if near else "--help lists the options"
        for name in filter(
            None, (getattr(found, key, None) for key in ("storyboard", "film", "source", "file"))
        ):
            whole = " ".join((str(name), *unknown))
            if Path(whole).exists():
                return f"a name with blanks stands in quotes: '{whole}'"
        return "a name with blanks stands in quotes, such as 'my film.txt'"


class _Help(RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=110)
