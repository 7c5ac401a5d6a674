"""Opens what a film is made from: storyboard, model, settings."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass

from ..checkpoints.bundle import ModelBundle, load_bundle
from ..engine.settings import FilmSpec
from .again import check_inputs, compare, dtype_of, film_spec
from .device import pick_device, pick_dtype
from .files import read_board, read_making
from .settings import Settings, choose, made_with, model_of, upscale_for


@dataclass(frozen=True)
class Opened:
    """A film before it is planned."""

    bundle: ModelBundle
    text: str
    """The storyboard's."""
    settings: Settings
    film: FilmSpec


def open_making(args: Namespace) -> Opened:
    """What the arguments name; for a film, the settings that it was made with.

    Raises:
        GroundedError children: a storyboard or model that cannot be used.
    """
    text, board = read_board(args)
    recorded = read_making(args)
    if recorded is not None:
        check_inputs(recorded, args)
    device = pick_device(args.device)
    bundle = load_bundle(
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
    own = Settings(bundle.memory, bundle.sample, bundle.video)
    settings = choose(own if recorded is None else made_with(recorded), args, board.fps)
    return Opened(bundle, text, settings, film_spec(recorded, upscale_for(args, settings.video, recorded)))
