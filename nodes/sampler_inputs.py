"""Inputs of the nodes that render: Stream Sampler and Segment Takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..gf_core.timeline import MAX_SEED
from . import host
from .compat import choice, number, widget
from .native.request import assume_choices
from .types import Memory, Timeline

if TYPE_CHECKING:
    from ..gf_core.checkpoints.model_bundle import ModelBundle
    from .rendering import Wishes


def sockets() -> list[Any]:
    """What a film is rendered with."""
    return [
        io.Model.Input("model", tooltip="A causal Wan model: from Load Model, or any loader and LoRA node."),
        io.Clip.Input("clip", tooltip="The model's text encoder."),
        io.Vae.Input("vae", tooltip="The model's VAE."),
        Timeline.Input("timeline", tooltip="The film, from Prompt Timeline."),
    ]


def settings() -> list[Any]:
    """Size, seed and place of a film."""
    side: dict[str, Any] = {"default": 0, "min": 0, "max": 4096, "step": 16}
    return [
        widget(io.Int, "width", **side, tooltip="Width in pixels. 0: what the model was trained for."),
        widget(io.Int, "height", **side, tooltip="Height in pixels. 0: what the model was trained for."),
        number(
            "seed",
            0,
            (0, MAX_SEED),
            "Seed of the film; each segment derives its own from it. A timeline that says @seed uses that "
            "instead, and the node says so.",
        ),
        widget(
            io.String,
            "take",
            default="film",
            tooltip="Name of the film's folder under output/grounded/takes. Renders of one Take share what they can.",
        ),
    ]


def options() -> list[Any]:
    """What a film may begin from and how it remembers."""
    return [
        Memory.Input(
            "memory",
            optional=True,
            tooltip="From Dual Memory Cache. Without it: what the model was trained for.",
        ),
        io.Image.Input(
            "start_image",
            optional=True,
            tooltip="The picture that the film begins with, cropped to the film's shape. Of several, a video at the "
            "film's speed, it goes on from the last ones, as many as its memory holds.",
        ),
    ]


def advanced() -> list[Any]:
    """What a model was made for, and where to stop; all optional."""
    return [
        widget(
            io.String,
            "steps",
            optional=True,
            default="",
            advanced=True,
            tooltip="Step list such as 1000, 750, 500, 250. Empty: what the model was distilled for.",
        ),
        number(
            "shift",
            0.0,
            (0.0, 100.0),
            "Time shift of the noise schedule. 0: the model's.",
            optional=True,
            step=0.1,
            advanced=True,
        ),
        number(
            "until",
            0,
            (0, 10000),
            "Stop after this segment, look, then raise it: what is there is kept. 0: the whole film.",
            optional=True,
            advanced=True,
        ),
        choice(
            "assume",
            assume_choices(),
            "What a renamed model file is, when it is not recognised.",
            optional=True,
            advanced=True,
        ),
        number(
            "tiles",
            0,
            (0, 512),
            "For a small card: decode in tiles with sides of so many latent cells, 16 or more; 40 are 320 "
            "pixels. Slower, and seams that nobody sees. 0: whole pictures.",
            optional=True,
            advanced=True,
        ),
    ]


class Rendering(io.ComfyNode):
    """A node that renders."""

    @classmethod
    def fingerprint_inputs(cls, take: str | None = None, **_: Any) -> str:
        """What was stopped early, or deleted, is made again although nothing in the graph has changed.

        Kept by the Take's name, as old hosts do not say here which node asks.
        """
        from .rendering import state_of

        return state_of(take) if isinstance(take, str) else ""

    @classmethod
    def validate_inputs(cls, take: str | None = None) -> bool | str:
        """Refuse an impossible name before anything runs; one from another node is only known later."""
        return host.allowed(host.take_folder, take)

    @classmethod
    def asked(
        cls, *, model: Any, clip: Any, vae: Any, assume: str = "detect", **wishes: Any
    ) -> tuple[str, ModelBundle, Wishes]:
        """The node's id, what it drives, and what for: values of all these inputs but timeline and take."""
        from .native.bundle import native_bundle
        from .native.trace import trace_model_file
        from .rendering import Wishes

        name = str(cls.hidden.unique_id)
        file = trace_model_file(cls.hidden.prompt, name)
        bundle = native_bundle(model, clip, vae, assume=assume, model_file=file)
        return name, bundle, Wishes(**wishes)
