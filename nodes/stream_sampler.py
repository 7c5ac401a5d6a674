"""Stream Sampler: renders a storyboard into a Take, and shows it while it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..gf_core.config import MemorySpec
from ..gf_core.errors import TakeError
from ..gf_core.timeline import MAX_SEED
from . import host
from .compat import schema, widget
from .types import Memory, Take, TakeHandle, Timeline, TimelineText

if TYPE_CHECKING:
    from torch import Tensor


class StreamSampler(io.ComfyNode):
    """Model, text encoder, decoder and storyboard in; a Take out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="GF_StreamSampler",
            display_name="Stream Sampler",
            category="Grounded Forcing",
            description="Renders the film shot by shot, shows it while it is made, and writes it to disk as it goes. "
            "What has not changed since the last render is kept.",
            search_aliases=[
                "causal",
                "self forcing",
                "long video",
                "autoregressive",
                "streaming",
                "render film",
            ],
            inputs=[*_sockets(), *_settings(), *_options(), *_advanced()],
            outputs=[
                Take.Output(
                    display_name="take",
                    tooltip="The render on disk, for Save Video and the Take nodes. It lies in output/grounded/takes.",
                )
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
        )

    @classmethod
    def fingerprint_inputs(cls, take: str | None = None, **_: Any) -> str:
        """A film that was stopped early, or deleted, is made again although nothing in the graph has changed.

        Kept by the Take's name: old hosts do not say here which node it is.
        """
        from .rendering import state_of

        return state_of(take) if isinstance(take, str) else ""

    @classmethod
    def validate_inputs(cls, take: str | None = None) -> bool | str:
        """Refuse an impossible name before anything runs; a name from another node is only known later."""
        try:
            if isinstance(take, str):
                host.take_folder(take)
        except TakeError as error:
            return host.in_words(error)
        return True

    @classmethod
    @host.said_plainly
    def execute(
        cls,
        model: Any,
        clip: Any,
        vae: Any,
        timeline: TimelineText,
        width: int,
        height: int,
        seed: int,
        take: str,
        memory: MemorySpec | None = None,
        start_image: Tensor | None = None,
        steps: str = "",
        shift: float = 0.0,
        until: int = 0,
        assume: str = "detect",
    ) -> io.NodeOutput:
        from .native import native_bundle, trace_model_file
        from .rendering import Wishes, remember, render

        node = str(cls.hidden.unique_id)
        file = trace_model_file(cls.hidden.prompt, node)
        bundle = native_bundle(model, clip, vae, assume=assume, model_file=file)
        wishes = Wishes(width, height, seed, memory, start_image, steps, shift, until)
        folder = host.take_folder(take)
        run, whole = render(node, bundle, timeline, wishes, folder)
        remember(take, folder / run, whole)
        return io.NodeOutput(TakeHandle(str(folder), run))


def _sockets() -> list[Any]:
    return [
        io.Model.Input("model", tooltip="A causal Wan model: from Load Model, or any loader and LoRA node."),
        io.Clip.Input("clip", tooltip="The model's text encoder."),
        io.Vae.Input("vae", tooltip="The model's VAE."),
        Timeline.Input("timeline", tooltip="The film, from Prompt Timeline."),
    ]


def _settings() -> list[Any]:
    side: dict[str, Any] = {"default": 0, "min": 0, "max": 4096, "step": 16}
    return [
        widget(io.Int, "width", **side, tooltip="Width in pixels. 0: what the model was trained for."),
        widget(io.Int, "height", **side, tooltip="Height in pixels. 0: what the model was trained for."),
        widget(
            io.Int,
            "seed",
            default=0,
            min=0,
            max=MAX_SEED,
            tooltip="Seed of the film, used when the timeline has no @seed. Each segment derives its own from it.",
        ),
        widget(
            io.String,
            "take",
            default="film",
            tooltip="Name of the film's folder under output/grounded/takes. Renders of one Take share what they can.",
        ),
    ]


def _options() -> list[Any]:
    return [
        Memory.Input(
            "memory",
            optional=True,
            tooltip="From Dual Memory Cache. Without it: what the model was trained for.",
        ),
        io.Image.Input(
            "start_image",
            optional=True,
            tooltip="The picture that the film begins with, cropped to the film's shape.",
        ),
    ]


def _advanced() -> list[Any]:
    from .native.settings import assume_choices

    return [
        widget(
            io.String,
            "steps",
            optional=True,
            default="",
            advanced=True,
            tooltip="Step list such as 1000, 750, 500, 250. Empty: what the model was distilled for.",
        ),
        widget(
            io.Float,
            "shift",
            optional=True,
            default=0.0,
            min=0.0,
            max=100.0,
            step=0.1,
            advanced=True,
            tooltip="Time shift of the noise schedule. 0: the model's.",
        ),
        widget(
            io.Int,
            "until",
            optional=True,
            default=0,
            min=0,
            max=10000,
            advanced=True,
            tooltip="Stop after this segment, look, then raise it: what is there is kept. 0: the whole film.",
        ),
        widget(
            io.Combo,
            "assume",
            optional=True,
            options=assume_choices(),
            default="detect",
            advanced=True,
            tooltip="What a renamed model file is, when it is not recognised.",
        ),
    ]
