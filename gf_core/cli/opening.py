"""Opens what a film is made from: storyboard, model, device, settings; for a finished film those it was made with."""

from __future__ import annotations

import logging
from argparse import Namespace

import torch

from ..checkpoints.bundle import ModelBundle, load_model
from ..config import Encoding
from ..devices import name_of
from ..engine.film import Film, settle
from ..engine.recorded import Recorded
from ..errors import GroundedError, ResourceError
from ..take.facts import kernels
from .files import read_board, read_making
from .settings import choose, model_of, upscale_for

log = logging.getLogger("grounded")


def open_film(args: Namespace) -> Film:
    """What the arguments name; for a finished film, with the settings that it was made with.

    Raises:
        GroundedError children: a storyboard or model that cannot be used.
    """
    text, board = read_board(args)
    recorded = read_making(args)
    if recorded is not None:
        check_inputs(recorded, args)
    device = pick_device(args.device)
    bundle = load_model(
        model_of(args, recorded),
        text=args.text_encoder,
        vae=args.vae,
        dtype=pick_dtype(args.dtype or dtype_of(recorded, device)),
        device=device,
        assume=args.assume,
        loras=args.lora,
    )
    if recorded is not None:
        compare(recorded, bundle)
    recipe = choose(bundle.recipe if recorded is None else recorded.recipe, args, board.fps)
    encoding = encoding_of(recorded, upscale_for(args, recipe.video, recorded))
    return settle(bundle, text, recipe=recipe, encoding=encoding, start_image=args.start_image)


def check_inputs(recorded: Recorded, args: Namespace) -> None:
    """Refuse a film that began from a picture which is not given.

    Raises:
        GroundedError: --start-image is missing.
    """
    if recorded.start_image and args.start_image is None:
        raise GroundedError(
            f"{args.storyboard} began from a picture, which is not in the film", "give it: --start-image FILE"
        )


def dtype_of(recorded: Recorded | None, device: torch.device) -> str | None:
    """The number type of the film, on the kind of device that it was made on; else None, the device's own."""
    if recorded is None or recorded.device != name_of(device):
        return None
    return recorded.dtype


def compare(recorded: Recorded, bundle: ModelBundle) -> None:
    """Say it where weights or machine are not those of the film."""
    if bundle.fingerprint != recorded.fingerprint:
        log.warning(
            "the film was made with %s %s, this is %s %s: another film will come out",
            recorded.model,
            recorded.fingerprint[:12],
            bundle.name,
            bundle.fingerprint[:12],
        )
    here = kernels(bundle)
    other = [
        f"{key} {then}, here {here.get(key)}"
        for key, then in recorded.machine.items()
        if here.get(key) != then
    ]
    if other:
        log.warning("made with %s: it will look alike, but the last bits differ", "; ".join(other))


def encoding_of(recorded: Recorded | None, upscale: int) -> Encoding:
    """How to encode: like the film, enlarged `upscale` times."""
    if recorded is None:
        return Encoding(upscale=upscale)
    return Encoding(recorded.film["codec"], recorded.film["quality"], upscale)


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


def pick_dtype(name: str | None) -> torch.dtype | None:
    """The torch type called `name`; None stays None."""
    return None if name is None else getattr(torch, name)
