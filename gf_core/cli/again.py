"""Making a finished film again: what has to be the same, and words where it is not."""

from __future__ import annotations

import logging
from argparse import Namespace

import torch

from ..checkpoints.bundle import ModelBundle
from ..engine.recorded import Recorded
from ..engine.settings import FilmSpec, device_name, kernels
from ..errors import GroundedError

log = logging.getLogger("grounded")


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
    if recorded is None or recorded.device != device_name(device):
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


def film_spec(recorded: Recorded | None, upscale: int) -> FilmSpec:
    """How to encode: like the film, enlarged `upscale` times."""
    if recorded is None:
        return FilmSpec(upscale=upscale)
    return FilmSpec(recorded.film["codec"], recorded.film["quality"], upscale)
