"""Stream Sampler: renders a storyboard into a Take, and shows it while it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..gf_core.config import MemorySpec
from . import host
from .compat import schema
from .sampler_inputs import advanced, options, settings, sockets, take_name, take_state
from .types import Take, TakeHandle, TimelineText

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
            inputs=[*sockets(), *settings(), *options(), *advanced()],
            outputs=[
                Take.Output(
                    display_name="take",
                    tooltip="The render on disk, for Save Video and the Take nodes. It lies in output/grounded/takes.",
                )
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
            has_intermediate_output=True,  # so that the host tells the page what it shows although nothing ran
        )

    @classmethod
    def fingerprint_inputs(cls, take: str | None = None, **_: Any) -> str:
        """A film that was stopped early, or deleted, is made again although nothing in the graph has changed."""
        return take_state(take)

    @classmethod
    def validate_inputs(cls, take: str | None = None) -> bool | str:
        """Refuse an impossible name before anything runs."""
        return take_name(take)

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
        tiles: int = 0,
    ) -> io.NodeOutput:
        from .native import native_bundle, trace_model_file
        from .rendering import Wishes, remember, render
        from .shown import sampler_facts, shown

        node = str(cls.hidden.unique_id)
        file = trace_model_file(cls.hidden.prompt, node)
        bundle = native_bundle(model, clip, vae, assume=assume, model_file=file)
        wishes = Wishes(width, height, seed, memory, start_image, steps, shift, until, tiles)
        folder = host.take_folder(take)
        done = render(node, bundle, timeline, wishes, folder)
        remember(take, folder / done.run, done.whole)
        handle = TakeHandle(str(folder), done.run)
        return io.NodeOutput(handle, ui=shown(sampler_facts(handle.open(), done.text)))
