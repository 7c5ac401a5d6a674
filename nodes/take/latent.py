"""Take to Latent: the stored latents of a segment, as ComfyUI's VAE nodes take them."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ...gf_core.errors import GroundedError, ResourceError
from ...gf_core.words import size
from ..compat import number, schema
from ..host import said_plainly
from ..types import LARGEST, Take, TakeHandle


class TakeToLatent(io.ComfyNode):
    """Take in, LATENT out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="GF_TakeToLatent",
            display_name="Take to Latent",
            category="Grounded Forcing/Take",
            description="The clean latents of a segment or of the whole film, for VAE Decode and other latent nodes.",
            search_aliases=["extract latents", "video latent"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model that made the film; it knows the scale of its latents."
                ),
                Take.Input("take", tooltip="The render, from Stream Sampler."),
                number(
                    "segment",
                    0,
                    (0, 100000),
                    "Number of the segment in the film, muted ones not counted. 0: the whole film.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="latent",
                    tooltip="[1, channels, frames, height, width] in the VAE's own scale. A segment decodes as if a "
                    "film began with it.",
                )
            ],
        )

    @classmethod
    @said_plainly
    def execute(cls, model: Any, take: TakeHandle, segment: int) -> io.NodeOutput:
        run = take.open()
        records = run.committed()
        chosen = [record for record in records if segment in (0, record["segment"] + 1)]
        if not chosen:
            last = max((record["segment"] + 1 for record in records), default=0)
            raise GroundedError(
                f"there is no segment {segment}, the render has {last}", f"choose 0 to {last}"
            )
        whole = run.latents(chosen[0]["index"]).stat().st_size * len(chosen)
        if whole > LARGEST:
            raise ResourceError(f"these latents are {size(whole)}, more than 2 GB", "choose one segment")
        latents = torch.cat([run.load_latents(record["index"]) for record in chosen])
        samples = latents.float().movedim(1, 0)[None]
        return io.NodeOutput({"samples": model.model.process_latent_out(samples)})
