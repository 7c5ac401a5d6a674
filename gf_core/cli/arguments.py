"""Arguments that several commands share, and how their values are read."""

from __future__ import annotations

import argparse
import math
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path

from ..memory.presets import PRESETS
from ..timeline.storyboard import MAX_FPS, MAX_SEED


def add_film_arguments(parser: ArgumentParser) -> None:
    """What a film is: the storyboard, and what may stand in place of its and the model's own wishes."""
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
        "--seed", type=whole(0, MAX_SEED), metavar="N", help="seed of the film, in place of @seed"
    )
    parser.add_argument(
        "--fps", type=whole(1, MAX_FPS), metavar="N", help="frames per second, in place of @fps"
    )
    parser.add_argument(
        "--upscale",
        type=whole(1, 16),
        metavar="N",
        help="enlarge N times (default: 8 for tiny films, else 1)",
    )
    add_assume(parser)


def add_assume(parser: ArgumentParser) -> None:
    """What a renamed checkpoint is."""
    help = "take a file of unknown name for this kind of checkpoint, for example self_forcing"
    parser.add_argument("--assume", metavar="KIND", help=help)


def add_device_arguments(parser: ArgumentParser) -> None:
    """Where to compute, and in which numbers."""
    parser.add_argument(
        "--device", help="cpu, cuda, cuda:1, mps (default: cuda where there is a card, else cpu)"
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        help="number type of the weights (default: float32 on the CPU, bfloat16 elsewhere)",
    )


def add_making_arguments(parser: ArgumentParser) -> None:
    """What a film is rendered from and into: Take, start image, companions of the model, device."""
    add_take(parser)
    parser.add_argument("--start-image", type=Path, metavar="FILE", help="begin the film from this picture")
    parser.add_argument("--vae", type=Path, metavar="FILE", help="VAE or TAEHV (default: beside the model)")
    parser.add_argument("--text-encoder", type=Path, metavar="FILE", help="UMT5 (default: beside the model)")
    parser.add_argument(
        "--lora",
        type=lora,
        action="append",
        default=[],
        metavar="FILE[:STRENGTH]",
        help="merge a LoRA into the model; may be repeated",
    )
    add_device_arguments(parser)


def add_take(parser: ArgumentParser) -> None:
    """Where runs are kept."""
    help = "run folder (default: takes/<the film's name>)"
    parser.add_argument("--take", type=Path, metavar="DIR", help=help)


def size(text: str) -> tuple[int, int]:
    """`832x480` as (width, height)."""
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal() and 16 <= int(width) <= 8192):
        raise argparse.ArgumentTypeError(f"'{text}' is not a size such as 832x480")
    if not 16 <= int(height) <= 8192:
        raise argparse.ArgumentTypeError(f"'{text}' is not between 16 and 8192 pixels high")
    return int(width), int(height)


def whole(smallest: int, largest: int) -> Callable[[str], int]:
    """A reader of whole numbers in that range."""

    def read(text: str) -> int:
        if not (text.isdecimal() and smallest <= int(text) <= largest):
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from {smallest} to {largest}")
        return int(text)

    return read


def lora(text: str) -> tuple[Path, float]:
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


def names(text: str) -> list[str]:
    """`sun, rain` as a list."""
    return [part.strip() for part in text.split(",")]
