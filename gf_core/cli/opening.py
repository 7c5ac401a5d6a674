"""Opens what a film is made from: storyboard, model, device, settings; for a finished film those it was made with."""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
from argparse import Namespace
from typing import TYPE_CHECKING

from ..builtin import is_small
from ..checkpoints.noted import PROCESSOR, note_bundle, note_of, recall_bundle, without_card
from ..config import Recipe
from ..devices import free_bytes, name_of, pick_device
from ..engine.film import Film, settle
from ..engine.recorded import Recorded
from ..errors import GroundedError
from ..estimate.fit import NOTHING, choose_fit, write_fit
from ..estimate.room import ModelCost, file_cost
from ..take.begun import with_choices
from ..take.facts import kernels
from ..timeline import Storyboard
from .files import folder_of, read_board, read_making
from .settings import choose, encoding_for, model_of, wanted
from .terminal import lasting

if TYPE_CHECKING:
    import torch

    from ..checkpoints.model_bundle import ModelBundle
    from ..team import Team

log = logging.getLogger("grounded")


def open_film(args: Namespace, team: Team | None = None, bundle: ModelBundle | None = None) -> Film:
    """What the arguments name; for a finished film, with the settings that it was made with.

    team: the ranks that make it. bundle: what these arguments, but for the storyboard's text, gave before.

    Raises GroundedError children: a storyboard or model that cannot be used, a film's start that is not given.
    """
    text, board = read_board(args)
    recorded = read_making(args)
    if recorded is not None and lacks_start(args, recorded):
        raise GroundedError(
            f"{args.storyboard} began from {recorded.start or 'a picture or a video'}, which is not in the film",
            "give it: --start-image FILE or --start-video FILE",
        )
    bundle = bundle or _bundle(args, team, board, recorded)
    recipe = choose(bundle.recipe if recorded is None else recorded.recipe, args, board.fps)
    recipe = recipe.fitted(bundle.fit)
    if recorded is not None:
        if recorded.device == bundle.device_name:
            bundle = with_choices(bundle, recorded.machine)
        _compare(recorded, bundle, recipe)
    encoding = encoding_for(args, recipe.video, recorded)
    start = {"start_image": args.start_image, "start_video": args.start_video}
    film = settle(bundle, text, recipe=recipe, encoding=encoding, folder=folder_of(args), **start)
    then, now = recorded and recorded.start, film.begins_with
    if then is not None and now is not None and then.sha256 != now.sha256:
        log.warning("the film began from %s, this is %s: another one may come out", then, now)
    return film


def _bundle(args: Namespace, team: Team | None, board: Storyboard, recorded: Recorded | None) -> ModelBundle:
    """The model that the arguments name, open, or as much as is noted of it."""
    known = team is None and _is_plain(args)
    device = PROCESSOR if known else pick_device(args.device)
    args.model = model_of(args, recorded)
    note = None
    if known and is_small(args.model) and not compiled_for(args, recorded, device):
        note = note_of(args.model, _dtype_name(args, recorded, device))

    @functools.cache
    def opens() -> ModelBundle:
        # As a large model is opened, gigabytes lie in cycles that only the collector gives back.
        with lasting() if note is not None else contextlib.nullcontext():
            opened = _open_bundle(args, team, board, recorded)
        if note is not None:
            note_bundle(note, opened, kernels(opened, opened.recipe))
        return opened

    bundle = (recall_bundle(note, opens) if note is not None else None) or opens()
    if bundle.licence:
        log.info("%s is given under: %s", bundle.name, bundle.licence)
    return bundle


def _is_plain(args: Namespace) -> bool:
    """Whether all is left to the model, on a processor: then what it comes to may be known before it is opened."""
    names = ("text_encoder", "vae", "lora", "assume", "parts_on", "attention", "fit", "compile")
    asked = any(getattr(args, name) for name in names)
    return "torch" not in sys.modules and args.device in (None, "cpu") and not asked and without_card()


def _open_bundle(
    args: Namespace, team: Team | None, board: Storyboard, recorded: Recorded | None
) -> ModelBundle:
    from ..checkpoints.bundle import load_model

    device = pick_device(args.device)
    dtype = dtype_for(args, recorded, device)
    fit = args.fit
    if fit is None and not is_small(args.model):
        fit = fitted_cost(args, choose(wanted(args, recorded), args, board.fps), dtype, device).fit
    network = {"dtype": dtype, "fit": fit, "assume": args.assume, "loras": args.lora}
    with contextlib.nullcontext() if team is None else team.agreed("load", args.model, **network):
        bundle = load_model(
            args.model,
            text=args.text_encoder,
            vae=args.vae,
            device=device,
            parts_on=parts_device(args),
            compiled=compiled_for(args, recorded, device),
            prompts=[board.expanded(n) for n, segment in enumerate(board.segments) if not segment.mute],
            attention=args.attention or "",
            **network,
        )
    bundle.team = team
    return bundle


def lacks_start(args: Namespace, recorded: Recorded) -> bool:
    """Whether the arguments do not name what a finished film began from."""
    return recorded.start_image and args.start_image is args.start_video is None


def fitted_cost(
    args: Namespace, recipe: Recipe, dtype: torch.dtype | None, device: torch.device
) -> ModelCost:
    """What a model that is not opened costs, with what --fit says, or else with what fits it and alters nothing."""
    cost = file_cost(
        args.model, device=device, dtype=dtype, text=args.text_encoder, vae=args.vae, assume=args.assume,
        parts_on=parts_device(args),
    )  # fmt: skip
    if args.fit is not None:
        return cost.fitted(args.fit)
    free = free_bytes(device)
    fit, more = choose_fit(cost, recipe, free, alter=False), choose_fit(cost, recipe, free)
    if fit == NOTHING != more:
        log.warning(
            "more memory is needed than is free; --fit %s makes do, with other pictures", write_fit(more)
        )
    return cost.fitted(fit)


def _compare(recorded: Recorded, bundle: ModelBundle, recipe: Recipe) -> None:
    """Say it where weights or machine are not those of the film."""
    if bundle.fingerprint != recorded.fingerprint:
        then = f"{recorded.model} {recorded.fingerprint[:12]}"
        now = f"{bundle.name} {bundle.fingerprint[:12]}"
        log.warning("the film was made with %s, this is %s: another film will come out", then, now)
    here = kernels(bundle, recipe)
    was = recorded.machine.items()
    other = [f"{key} {then}, here {here.get(key)}" for key, then in was if here.get(key) != then]
    if other:
        log.warning("made with %s: it will look alike, but the last bits differ", "; ".join(other))


def parts_device(args: Namespace) -> torch.device | None:
    """Where --parts-on puts text encoder and decoder; None is where the network is."""
    if args.parts_on is None:
        return None
    return pick_device(args.parts_on, "leave --parts-on away, or name a device that is here")


def dtype_for(args: Namespace, recorded: Recorded | None, device: torch.device) -> torch.dtype | None:
    """--dtype, else that of the film where it was made on such a device; None leaves it to the device."""
    import torch

    name = _dtype_name(args, recorded, device)
    return getattr(torch, name) if name else None


def _dtype_name(args: Namespace, recorded: Recorded | None, device: torch.device) -> str | None:
    if args.dtype is None and recorded is not None and recorded.device == name_of(device):
        return recorded.dtype
    return args.dtype


def compiled_for(args: Namespace, recorded: Recorded | None, device: torch.device) -> bool | None:
    """--compile, else as the film was where it was made on such a device; None leaves it to the film."""
    if args.compile is None and recorded is not None and recorded.device == name_of(device):
        return "compiled" in recorded.machine
    return args.compile
