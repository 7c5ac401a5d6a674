"""Take Sheet: the whole film on one page."""

from __future__ import annotations

import tempfile
from pathlib import Path

from comfy_api.latest import io
from PIL import Image

from ..compat import number, schema
from ..host import said_plainly
from ..pictures import image_tensor
from ..shown import keep, shown
from ..types import Take, TakeHandle


class TakeSheet(io.ComfyNode):
    """Take in, one IMAGE out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="GF_TakeSheet",
            display_name="Take Sheet",
            category="Grounded Forcing/Take",
            description="A contact sheet: a row of pictures per segment, with its prompt.",
            search_aliases=["contact sheet", "overview"],
            inputs=[
                Take.Input("take", tooltip="The render, from Stream Sampler."),
                number("columns", 6, (1, 24), "Pictures per segment."),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The page.")],
            has_intermediate_output=True,  # so that the page is seen although nothing ran
        )

    @classmethod
    @said_plainly
    def execute(cls, take: TakeHandle, columns: int) -> io.NodeOutput:
        from ...gf_core.engine.sheet import draw_sheet

        run = take.open()
        with tempfile.TemporaryDirectory() as folder:
            page = Path(folder) / "sheet.png"
            subtitle = draw_sheet(run, run.film, page, Path(take.folder).name, columns)
            with Image.open(page) as image:
                facts = keep(run, "GF_TakeSheet", {"text": subtitle}, image, columns=columns)
                return io.NodeOutput(image_tensor(image), ui=shown(facts))
