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
from ..train.encode import encode_shots
from ..train.ranks import launched
from ..train.sources.shots import Shots
from ..vae.load import load_vae
from ..words import counted


def encode(args: Namespace) -> int:
    """Encode every shot, and say how many clips there are now."""
    device, dtype = pick_device(args.device), getattr(torch, args.dtype) if args.dtype else None
    shots = Shots(args.shots)
    if args.vae and not args.model:
        codec, video = load_vae(args.vae, device=device, dtype=dtype), VideoSpec()
    else:
        bundle = load_model(args.model or "builtin", vae=args.vae, device=device, dtype=dtype)
        codec, video = bundle.codec, bundle.recipe.video
    if args.size:
        video = replace(video, width=args.size[0], height=args.size[1])
    video = replace(video, fps=args.fps or video.fps)
    if (
        (args.frames - 1) % codec.time_stride
        or video.width % codec.spatial_stride
        or video.height % codec.spatial_stride
    ):
        raise GroundedError(
            f"clips of {args.frames} pictures of {video.width}x{video.height} are no whole latents",
            f"give {codec.time_stride} n + 1 pictures, such as 81, and sides that {codec.spatial_stride} divides",
        )
    check_writable(args.out)
    clips = f"{video.width}x{video.height} at {video.fps} fps, clips of {args.frames} pictures"
    print(f"{counted(len(shots), 'shot')} to {clips}")
    done = encode_shots(shots, codec, args.out, video, args.frames, launched())
    short = counted(done.short, "shot is", "shots are")
    print(f"{counted(done.made, 'clip')} encoded, {done.kept} already there; {short} shorter than a clip")
    return 0
