"""Stream Sampler: renders a storyboard into a Take, and shows it while it is made."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..gf_core.errors import TakeError
from . import host
from .compat import schema
from .sampler_inputs import Rendering, advanced, options, settings, sockets
from .types import Take, TakeHandle, TimelineText


class StreamSampler(Rendering):
    """Model, text encoder, decoder and storyboard in; a Take out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="GF_StreamSampler",
            display_name="Stream Sampler",
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
    @host.said_plainly
    def execute(cls, timeline: TimelineText, take: str, **inputs: Any) -> io.NodeOutput:
        from .rendering import render
        from .shown import sampler_facts, shown

        node, bundle, wishes = cls.asked(**inputs)
        done = render(node, bundle, timeline, wishes, take)
        if not done.frames:
            raise TakeError("stopped before the first chunk was done", "press Run again")
        handle = TakeHandle(str(host.take_folder(take)), done.run)
        return io.NodeOutput(handle, ui=shown(sampler_facts(handle.open(), done.text)))
