"""Take Sheet: the whole film on one page."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from comfy_api.latest import io
from PIL import Image

from ..gf_core.errors import TakeError
from .compat import schema, widget
from .host import said_plainly
from .pictures import image_tensor
from .types import Take, TakeHandle

if TYPE_CHECKING:
    from ..gf_core.take.folder import Run


class TakeSheet(io.ComfyNode):
    """Take in, one IMAGE out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="GF_TakeSheet",
            display_name="Take Sheet",
            category="Grounded Forcing/take",
            description="A contact sheet: a row of pictures per segment, with its prompt.",
            search_aliases=["contact sheet", "overview", "storyboard picture"],
            inputs=[
                Take.Input("take", tooltip="The render, from Stream Sampler."),
                widget(io.Int, "columns", default=6, min=1, max=24, tooltip="Pictures per segment."),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The page.")],
        )

    @classmethod
    @said_plainly
    def execute(cls, take: TakeHandle, columns: int) -> io.NodeOutput:
        from ..gf_core.engine.imprint import film_chapters
        from ..gf_core.video import SheetRow, contact_sheet, pick_frames, probe
        from ..gf_core.video.pixels import preview

        run = take.open()
        info, rows, segments = probe(run.film), [], _segments(run)
        for chapter in film_chapters(run):
            first, end = round(chapter.start_seconds * info.fps), round(chapter.end_seconds * info.fps)
            indices = sorted({round(at) for at in np.linspace(first, end - 1, columns)})
            found = pick_frames(run.film, indices)
            pictures = [preview(found[at][None], 640)[0] for at in indices if at in found]
            if not pictures:
                raise TakeError(f"the film of {run.folder.name} cannot be read back", "render it again")
            times = [float(at / info.fps) for at in indices if at in found]
            span = f"{chapter.start_seconds:.1f} - {chapter.end_seconds:.1f} s"
            segment = segments[int(chapter.title.partition(".")[0]) - 1]
            rows.append(SheetRow(segment["prompt"], pictures, segment["verb"], times, span))
        if not rows:
            raise TakeError(f"{run.folder.name} has no whole segment yet", "render at least one chunk")
        subtitle = f"{info.seconds:.1f} s, {len(rows)} segments"
        with tempfile.TemporaryDirectory() as folder:
            page = contact_sheet(
                rows, Path(folder) / "sheet.png", title=Path(take.folder).name, subtitle=subtitle
            )
            with Image.open(page) as image:
                return io.NodeOutput(image_tensor(image))


def _segments(run: Run) -> list[dict[str, Any]]:
    """The film's segments as planned: verb, prompt and more."""
    try:
        return json.loads(run.settings.read_text(encoding="utf-8"))["segments"]
    except (OSError, ValueError, KeyError) as error:
        raise TakeError(f"the settings of {run.folder} cannot be read: {error}", "render it again") from error
