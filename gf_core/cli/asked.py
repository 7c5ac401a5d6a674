"""What the options of a command ask for, whatever the storyboard is, against what a film says it was made with."""

from __future__ import annotations

from argparse import Namespace
from functools import cached_property
from typing import Any

from ..attention.backends import BACKENDS
from ..checkpoints.bundle import model_prints
from ..checkpoints.load import default_dtype
from ..config import Fit, Recipe
from ..engine.recorded import Recorded
from .settings import choose, encoding_for, model_of


class Asked:
    """The options `args` of `grounded render`; files are looked at once, and no transformer is read."""

    def __init__(self, args: Namespace) -> None:
        self._args = args

    @cached_property
    def _model(self) -> tuple[Recipe, dict[str, str]]:
        args = self._args
        return model_prints(
            model_of(args, None), text=args.text_encoder, vae=args.vae, assume=args.assume, loras=args.lora,
            fit=args.fit,
        )  # fmt: skip

    def other(self, made: Recorded, fps: float) -> list[str]:
        """What is asked for otherwise than a film was `made`, in words; nothing where it need not be made again.

        Not on which machine it is made, nor what changes the last bits only. fps: of the storyboard.

        Raises GroundedError children: the options name what cannot be used.
        """
        args, settings = self._args, made.everything["settings"]
        own, prints = self._model
        recipe = choose(own, args, fps).fitted(args.fit or Fit())
        dtype = args.dtype or default_dtype("cpu" if made.device == "cpu" else "cuda")
        kernel = made.machine.get("attention", "sdpa")
        rounds = any(row.name == kernel and row.when == "asked" for row in BACKENDS)
        pairs: list[tuple[str, Any, Any]] = [
            ("model", prints["model"], made.fingerprint),
            ("text encoder", prints["text"], settings.get("text")),
            ("decoder", prints["codec"], settings.get("codec")),
            ("memory", recipe.memory, made.recipe.memory),
            ("sampler", recipe.sample, made.recipe.sample),
            ("size or speed", recipe.video, made.recipe.video),
            ("encoding", encoding_for(args, recipe.video, None), made.encoding),
            ("number type", str(dtype).removeprefix("torch."), made.dtype),
            ("attention", args.attention or ("sdpa" if rounds else kernel), kernel),
        ]
        return [name for name, asked, was in pairs if asked != was]
