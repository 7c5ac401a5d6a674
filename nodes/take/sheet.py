"""Take Sheet: the whole film on one page."""

from __future__ import annotations

import tempfile
from pathlib import Path

from comfy_api.latest import io
from PIL import Image

from ...gf_core.errors import TakeError
from ...gf_core.words import counted
from ..compat import schema, widget
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
                widget(io.Int, "columns", default=6, min=1, max=24, tooltip="Pictures per segment."),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The page.")],
            has_intermediate_output=True,  # so that the page is seen although nothing ran
        )

    @classmethod
    @said_plainly
    def execute(cls, take: TakeHandle, columns: int) -> io.NodeOutput:
        from ...gf_core.engine.imprint import film_chapters, said_verb
        from ...gf_core.video import contact_sheet, film_row, probe

        run = take.open()
        info, rows, segments = probe(run.film), [], run.read_settings()["segments"]
        for chapter in film_chapters(run):
            first, end = round(chapter.start_seconds * info.fps), round(chapter.end_seconds * info.fps)
            span = f"{chapter.start_seconds:.1f} - {chapter.end_seconds:.1f} s"
            segment = segments[int(chapter.title.partition(".")[0]) - 1]
            about = (segment["prompt"], said_verb(segment["verb"], segment.get("back")), span)
            rows.append(film_row(run.film, first, end, info.fps, *about, count=columns))
        if not rows:
            raise TakeError(f"{run.folder.name} has no whole segment yet", "render at least one chunk")
        subtitle = f"{info.seconds:.1f} s, {counted(len(rows), 'segment')}"
        with tempfile.TemporaryDirectory() as folder:
            page = contact_sheet(
                rows, Path(folder) / "sheet.png", title=Path(take.folder).name, subtitle=subtitle
            )
            with Image.open(page) as image:
                facts = keep(run, "GF_TakeSheet", {"text": subtitle}, image, columns=columns)
                return io.NodeOutput(image_tensor(image), ui=shown(facts))
