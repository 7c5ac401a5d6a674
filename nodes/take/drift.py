"""Take Drift: does every shot stay what its first second was?"""

from __future__ import annotations

from pathlib import Path

from comfy_api.latest import io

from ..compat import schema
from ..host import said_plainly, stop_if_interrupted
from ..pictures import image_tensor
from ..shown import keep, shown
from ..types import Take, TakeHandle


class TakeDrift(io.ComfyNode):
    """Take in, chart and text out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="GF_TakeDrift",
            display_name="Take Drift",
            category="Grounded Forcing/Take",
            description="Compares every second of a shot with its first one: background, colour, flicker, sharpness, "
            "and with the built-in model the traits of the character.",
            search_aliases=["stability", "consistency", "quality chart", "compare memories"],
            is_output_node=True,
            inputs=[Take.Input("take", tooltip="The render, from Stream Sampler.")],
            outputs=[
                io.Image.Output(
                    display_name="image", tooltip="The chart: a curve per measure along the film."
                ),
                io.String.Output(
                    display_name="text", tooltip="A line per shot: its last second against its first."
                ),
            ],
        )

    @classmethod
    @said_plainly
    def execute(cls, take: TakeHandle) -> io.NodeOutput:
        from ...gf_core.evaluation.charts.drift import drift_chart, shot_lines
        from ...gf_core.evaluation.parts import run_parts
        from ...gf_core.video import probe

        run = take.open()
        parts, builtin = run_parts(run)
        title = Path(take.folder).name
        image, rows = drift_chart(run.film, parts, builtin=builtin, title=title, tick=stop_if_interrupted)
        text = "\n".join(shot_lines(parts, rows, float(probe(run.film).fps)))
        facts = keep(run, "GF_TakeDrift", {"text": text}, image)
        return io.NodeOutput(image_tensor(image), text, ui=shown(facts, text=[text]))
