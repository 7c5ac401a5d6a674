"""Options that several commands share: how each is read, and what its help says. No torch."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arguments import MANY, number, size
from ..config import MAX_FPS, MAX_SEED
from ..errors import GroundedError
from ..memory.presets import PRESETS
from ..words import read_rate

if TYPE_CHECKING:
    from ..config import Fit


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
    from ..estimate.fit import read_fit  # here, as `--help` has no use for it

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
        "help": "pictures per second such as 24 or 23.976, in place of @fps, or of the model's",
    },
    "--upscale": number(1, 16, help="enlarge N times (default: 8 for tiny films, else 1)"),
    "--assume": {
        "metavar": "KIND",
        "help": "take a file of unknown name for this kind of checkpoint, for example self_forcing",
    },
    "--take": {
        "type": path,
        "metavar": "DIR",
        "help": "run folder (default: takes/<the storyboard's name>)",
    },
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
        "metavar": "HOW",
        "help": "what is done to save memory: off, or some of offload=N (blocks that stay), tiles=N (16 or more), "
        "int8, fp8 or fp8-fast with commas between (default: auto, blocks wait where that is enough; the rest makes "
        "other pictures)",
    },
    "--compile": {
        "type": compiled,
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
        "help": "print model, memory, sampler, size, seeds and versions as JSON, and the storyboard to stderr",
    },
    "--shape": {"choices": ("tiny", "1.3b", "14b"), "help": "random weights of this shape instead"},
    "--chunks": number(2, MANY, default=12, help="chunks to make (default: 12)"),
    "--json": {**FILE, "help": "write every number as JSON too"},
    "--chart": {**FILE, "help": "where to draw the numbers (PNG)"},
}
"""Every option that more than one command has or whose name says it all, as argparse wants it."""
