"""Take Report: what a render measured, as text."""

from __future__ import annotations

import json

from comfy_api.latest import io, ui

from ..gf_core.errors import TakeError
from .compat import schema
from .host import said_plainly, show_text
from .types import Take, TakeHandle


class TakeReport(io.ComfyNode):
    """Take in, text out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="GF_TakeReport",
            display_name="Take Report",
            category="Grounded Forcing/take",
            description="What the render took: time of every stage, speed, memory, what was kept from before.",
            search_aliases=["render statistics", "fps", "timing"],
            is_output_node=True,
            inputs=[Take.Input("take", tooltip="The render, from Stream Sampler.")],
            outputs=[io.String.Output(display_name="text", tooltip="The report, one fact per line.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @said_plainly
    def execute(cls, take: TakeHandle) -> io.NodeOutput:
        from ..gf_core.engine.report import report_lines

        run = take.open()
        try:
            report = json.loads(run.report.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise TakeError(
                f"{run.folder.name} has no report yet", "press Queue: the film goes on"
            ) from error
        except (OSError, ValueError) as error:
            raise TakeError(
                f"the report of {run.folder.name} cannot be read: {error}", "render the film again"
            ) from error
        text = "\n".join(report_lines(report))
        show_text(text, str(cls.hidden.unique_id))
        return io.NodeOutput(text, ui=ui.PreviewText(text))
