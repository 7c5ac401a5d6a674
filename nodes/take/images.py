"""Take to Images: a few seconds of the film as IMAGE."""

from __future__ import annotations

import math
from typing import Any

import torch
from comfy_api.latest import io

from ...gf_core.errors import GroundedError, ResourceError
from ...gf_core.words import size
from ..compat import number, schema
from ..host import said_plainly, stop_if_interrupted
from ..types import LARGEST, Take, TakeHandle


class TakeToImages(io.ComfyNode):
    """Take in, bounded IMAGE out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="GF_TakeToImages",
            display_name="Take to Images",
            category="Grounded Forcing/Take",
            description="Pictures of a part of the film, for ComfyUI's image nodes. At most 2 GB at once.",
            search_aliases=["extract frames", "last frame", "video to images"],
            inputs=[
                Take.Input("take", tooltip="The render, from Stream Sampler."),
                number(
                    "start_seconds",
                    0.0,
                    (-36000.0, 36000.0),
                    "Where to begin, in seconds of film; below zero counts from the end.",
                    step=0.25,
                    round=0.001,
                ),
                number(
                    "seconds",
                    2.0,
                    (0.0, 36000.0),
                    "How much of the film, in seconds. At least one picture comes out.",
                    step=0.25,
                    round=0.001,
                ),
                number("every_nth", 1, (1, 10000), "Take every n-th picture."),
            ],
            outputs=[
                io.Image.Output(display_name="images", tooltip="The pictures."),
                io.Float.Output(
                    display_name="fps", tooltip="Their pictures per second, every_nth counted in."
                ),
            ],
        )

    @classmethod
    @said_plainly
    def execute(cls, take: TakeHandle, start_seconds: float, seconds: float, every_nth: int) -> io.NodeOutput:
        from ...gf_core.video import probe, read_frames

        run = take.open()
        info = probe(run.film)
        begin = round(start_seconds * info.fps) + (info.frames if start_seconds < 0 else 0)
        end = min(begin + max(1, round(seconds * info.fps)), info.frames)
        if not 0 <= begin < info.frames:
            raise GroundedError(
                f"the film is {info.seconds:.2f} s long, {start_seconds:g} s is outside it",
                "choose a moment inside the film",
            )
        images = _room(math.ceil((end - begin) / every_nth), info.height, info.width)
        for count, frame in enumerate(read_frames(run.film, begin, end)):
            stop_if_interrupted()
            if count % every_nth == 0:
                images[count // every_nth] = torch.from_numpy(frame).float().div_(255)
        return io.NodeOutput(images, float(info.fps / every_nth))


def _room(count: int, height: int, width: int) -> Any:
    """Space for the pictures [count H W 3]. Raises ResourceError: too many, with a number that would do."""
    one = height * width * 3 * 4
    if count * one > LARGEST:
        raise ResourceError(
            f"{count} pictures of {width}x{height} are {size(count * one)}, more than 2 GB",
            f"ask for fewer seconds, or every {math.ceil(count * one / LARGEST)}th picture of these",
        )
    return torch.empty(count, height, width, 3)
