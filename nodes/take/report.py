"""Take Report: what a render measured, as text."""

from __future__ import annotations

from comfy_api.latest import io

from ..compat import schema
from ..host import said_plainly
from ..shown import report_facts, shown
from ..types import Take, TakeHandle


class TakeReport(io.ComfyNode):
    """Take in, text out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="GF_TakeReport",
            display_name="Take Report",
            category="Grounded Forcing/Take",
            description="What the render took: time of every stage, speed, memory, what was kept from before.",
            search_aliases=["render statistics", "fps", "timing"],
            is_output_node=True,
            inputs=[Take.Input("take", tooltip="The render, from Stream Sampler.")],
            outputs=[io.String.Output(display_name="text", tooltip="The report, one fact per line.")],
        )

    @classmethod
    @said_plainly
    def execute(cls, take: TakeHandle) -> io.NodeOutput:
        run = take.open()
        report = run.read_report()
        facts = report_facts(run, report)
        return io.NodeOutput(facts["text"], ui=shown(facts, text=[facts["text"]]))
