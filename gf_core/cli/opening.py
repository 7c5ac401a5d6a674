"""Opens what a film is made from: storyboard, model, device, settings; for a finished film those it was made with."""

from __future__ import annotations

import logging
from argparse import Namespace

import torch

from ..checkpoints.bundle import ModelBundle, load_model
from ..devices import name_of
from ..engine.film import Film, settle
from ..engine.recorded import Recorded
from ..errors import GroundedError, ResourceError
from ..take.facts import kernels
from .files import folder_of, read_board, read_making
from .settings import choose, encoding_for, model_of

log = logging.getLogger("grounded")


def open_film(args: Namespace) -> Film:
    """What the arguments name; for a finished film, with the settings that it was made with.

    Raises:
        GroundedError children: a storyboard or model that cannot be used, a film's start that is not given.
    """
    text, board = read_board(args)
    recorded = read_making(args)
    if recorded is not None and recorded.start_image and args.start_image is args.start_video is None:
        raise GroundedError(
            f"{args.storyboard} began from a picture or a video, which is not in the film",
            "give it: --start-image FILE or --start-video FILE",
        )
    device = pick_device(args.device)
    bundle = load_model(
        model_of(args, recorded),
        text=args.text_encoder,
        vae=args.vae,
        dtype=dtype_for(args, recorded, device),
        device=device,
        assume=args.assume,
        loras=args.lora,
        prompts=[board.expanded(n) for n, segment in enumerate(board.segments) if not segment.mute],
    )
    if bundle.licence:
        log.info("%s is given under: %s", bundle.name, bundle.licence)
    if recorded is not None:
        _compare(recorded, bundle)
    recipe = choose(bundle.recipe if recorded is None else recorded.recipe, args, board.fps)
    encoding = encoding_for(args, recipe.video, recorded)
    start = {"start_image": args.start_image, "start_video": args.start_video}
    return settle(bundle, text, recipe=recipe, encoding=encoding, folder=folder_of(args), **start)


def _compare(recorded: Recorded, bundle: ModelBundle) -> None:
    """Say it where weights or machine are not those of the film."""
    if bundle.fingerprint != recorded.fingerprint:
        then = f"{recorded.model} {recorded.fingerprint[:12]}"
        now = f"{bundle.name} {bundle.fingerprint[:12]}"
        log.warning("the film was made with %s, this is %s: another film will come out", then, now)
    here = kernels(bundle)
    was = recorded.machine.items()
    other = [f"{key} {then}, here {here.get(key)}" for key, then in was if here.get(key) != then]
    if other:
        log.warning("made with %s: it will look alike, but the last bits differ", "; ".join(other))


def dtype_for(args: Namespace, recorded: Recorded | None, device: torch.device) -> torch.dtype | None:
    """--dtype, else that of the film where it was made on such a device; None leaves it to the device."""
    name = args.dtype
    if name is None and recorded is not None and recorded.device == name_of(device):
        name = recorded.dtype
    return getattr(torch, name) if name else None


def pick_device(name: str | None) -> torch.device:
    """The device called `name`, or the best one here; raises ResourceError if this machine has no such device."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch raises either, by device
        reason = str(error).splitlines()[0].split(". ")[0]
        raise ResourceError(f"device '{name}' cannot be used: {reason}", "use --device cpu") from error
    return device
