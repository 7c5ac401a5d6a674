"""The command that makes training data: encode."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace

import torch

from ..checkpoints.bundle import load_model
from ..config import VideoSpec
from ..devices import pick_device
from ..errors import GroundedError
from ..files.atomic import check_writable
from ..text.vocabulary import Vocabulary
from ..train.encode import encode_shots
from ..train.ranks import launched
from ..train.sources.shots import Shots
from ..vae.load import load_vae
from ..words import counted, plain

FEW = 6
"""Unknown words that are told."""


def encode(args: Namespace) -> int:
    """Encode every shot, and say how many clips there are now."""
    words: object = None
    device, dtype = pick_device(args.device), getattr(torch, args.dtype) if args.dtype else None
    shots = Shots(args.shots)
    if args.vae and not args.model:
        codec, video = load_vae(args.vae, device=device, dtype=dtype), VideoSpec()
    else:
        bundle = load_model(args.model or "builtin", vae=args.vae, device=device, dtype=dtype)
        codec, video, words = bundle.codec, bundle.recipe.video, bundle.text
    if args.size:
        video = replace(video, width=args.size[0], height=args.size[1])
    video = replace(video, fps=args.fps or video.fps)
    if (
        (args.frames - 1) % codec.time_stride
        or video.width % codec.spatial_stride
        or video.height % codec.spatial_stride
    ):
        raise GroundedError(
            f"clips of {counted(args.frames, 'picture')} of {video.width}x{video.height} are no whole latents",
            f"give {codec.time_stride} n + 1 pictures, such as 81, and sides that {codec.spatial_stride} divides",
        )
    check_writable(args.out)
    clips = f"{video.width}x{video.height} at {video.fps} fps, clips of {counted(args.frames, 'picture')}"
    print(f"{counted(len(shots), 'shot')} to {clips}")
    if isinstance(words, Vocabulary) and (strange := _strange(shots, words)):
        print(strange)
    done = encode_shots(shots, codec, args.out, video, args.frames, launched())
    short = counted(done.short, "shot is", "shots are")
    print(f"{counted(done.made, 'clip')} encoded, {done.kept} already there; {short} shorter than a clip")
    if done.others:
        print(
            f"{counted(done.others, 'clip')} of other shots in {args.out}: a training on it takes them, too"
        )
    return 0


def _strange(shots: Shots, words: Vocabulary) -> str:
    """A line on captions that the model cannot read, which are encoded all the same; "" where there are none."""
    found = [(shot, unknown) for shot in shots.shots if (unknown := words.unknown(shot.caption))]
    if not found:
        return ""
    every = dict.fromkeys(word for _, unknown in found for word in unknown)
    told = ", ".join(plain(word, 40) for word in list(every)[:FEW])
    more = f" and {len(every) - FEW} more" if len(every) > FEW else ""
    return (
        f"captions with words that the model does not know, so that its trainings refuse them: {len(found)} of "
        f"{len(shots)}, the first of {plain(found[0][0].path.name)}: {told}{more}"
    )
