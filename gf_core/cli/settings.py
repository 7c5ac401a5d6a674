"""What a film is made with: the model's wishes, and what the command line puts in their place. No torch."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..builtin import model_file
from ..checkpoints.absent import refuse_missing
from ..config import Encoding, Recipe, VideoSpec
from ..errors import GroundedError
from ..foreign import known_values
from ..memory.presets import PRESETS

if TYPE_CHECKING:
    from ..engine.recorded import Recorded


def choose(wanted: Recipe, args: Namespace, fps: float) -> Recipe:
    """What the model wants, with --memory, --size, --noise and the film's speed in its place."""
    memory, video = wanted.memory, replace(wanted.video, fps=fps)
    if args.memory:
        memory = replace(PRESETS[args.memory], chunk=memory.chunk)
    if args.size:
        video = replace(video, width=args.size[0], height=args.size[1])
    sample = replace(wanted.sample, noise=args.noise) if args.noise else wanted.sample
    return Recipe(memory, sample, video)


def wanted(args: Namespace, recorded: Recorded | None) -> Recipe:
    """What the model wants, or what a film was made with; headers are read, weights are not."""
    if args.model == "builtin":
        return builtin_recipe() if recorded is None else recorded.recipe
    from ..checkpoints.bundle import wanted_recipe
    from ..checkpoints.identify import identify, require_drivable
    from ..checkpoints.networks import lora_beside

    item = identify(model_file(args.model), assume=args.assume)
    require_drivable(item, assumed=args.assume is not None)
    lora_beside(item, [lora for lora, _ in args.lora])
    return wanted_recipe(item) if recorded is None else recorded.recipe


def builtin_recipe() -> Recipe:
    """The built-in model's own, from its file's header; the defaults where there is no such file."""
    own: dict[str, Any] = {"video": {"width": 96, "height": 64}}
    file = model_file("builtin")
    if file.is_file():
        with file.open("rb") as opened:  # a safetensors file begins with the length of its JSON header
            header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
        own = json.loads(header["__metadata__"]["grounded"])
    return known_values(Recipe(), own)


def model_of(args: Namespace, recorded: Recorded | None) -> str:
    """The model to open: --model, else the built-in one.

    Raises GroundedError: a film is to be made again whose model is another one, and --model does not say where it is.
    CheckpointError: nothing lies where it is said to be; that needs no torch to be told.
    """
    if args.model is None and recorded is not None and not recorded.builtin:
        raise GroundedError(
            f"{args.storyboard} was made with {recorded.model} (hash {recorded.fingerprint[:12]})",
            "say where that file is: --model FILE",
        )
    model = args.model or "builtin"
    if model != "builtin":
        refuse_missing(model_file(model))
    return model


def encoding_for(args: Namespace, video: VideoSpec, recorded: Recorded | None) -> Encoding:
    """How the film is encoded: as `recorded` was, else enlarged by its size; --upscale goes before either."""
    encoding = Encoding.usual(video) if recorded is None else recorded.encoding
    return replace(encoding, upscale=args.upscale) if args.upscale else encoding
