"""A square picture for a workflow's card, from frames of the films it has rendered."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from .graphs import Node, Workflow

SIDE, GAP = 400, 4
DARK = (17, 18, 21)


def frames_at(film: Path, places: Sequence[float]) -> list[Image.Image]:
    """The pictures of a film at parts of its length (0 to 1), in order."""
    with av.open(str(film)) as opened:
        shown = [frame.to_image() for frame in opened.decode(video=0)]
    return [shown[min(int(place * len(shown)), len(shown) - 1)] for place in places]


def crop(picture: Image.Image, width: int, height: int) -> Image.Image:
    """The middle of a picture in another shape."""
    scale = max(width / picture.width, height / picture.height)
    wide = picture.resize(
        (round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS
    )
    left, top = (wide.width - width) // 2, (wide.height - height) // 2
    return wide.crop((left, top, left + width, top + height))


def stack(rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """One square of rows of pictures with thin gaps."""
    page = Image.new("RGB", (SIDE, SIDE), DARK)
    height = (SIDE - GAP * (len(rows) - 1)) // len(rows)
    for number, row in enumerate(rows):
        width = (SIDE - GAP * (len(row) - 1)) // len(row)
        for place, picture in enumerate(row):
            page.paste(crop(picture, width, height), (place * (width + GAP), number * (height + GAP)))
    return page


def make_thumbnail(workflow: Workflow, output: Path, target: Path) -> None:
    """Write the card of `workflow` from the films below `output`: one film in two rows, several as a row each.

    Takes of a segment show one picture each.
    """
    clips = sorted(
        clip for node in workflow.nodes if node.kind == "GF_SegmentTakes" for clip in _clips(node, output)
    )
    if clips:
        pictures = [frames_at(clip, (0.8,))[0] for clip in clips]
        stack([pictures[:2], pictures[2:4]]).save(target, quality=88, optimize=True)
        return
    takes = [node.inputs["take"] for node in workflow.nodes if node.kind == "GF_StreamSampler"]
    films = [
        sorted(runs)[-1]
        for runs in ([*(output / "grounded" / "takes" / t).glob("run-*/film.mp4")] for t in takes)
    ]
    if len(set(takes)) < len(takes):  # several renders of one Take
        films = sorted((output / "grounded" / "takes" / takes[0]).glob("run-*/film.mp4"))[-len(takes) :]
    if len(films) == 1:
        pictures = frames_at(films[0], (0.1, 0.35, 0.65, 0.9))
        rows = [pictures[:2], pictures[2:]]
    else:
        rows = [frames_at(film, (0.3, 0.85)) for film in films]
    stack(rows).save(target, quality=88, optimize=True)


def _clips(node: Node, output: Path) -> list[Path]:
    folder = f"segment-{node.inputs['segment']:03d}"
    return [*(output / "grounded" / "takes" / node.inputs["take"] / folder).glob("?.mp4")]


def make_label(text: str, behind: Path, target: Path) -> None:
    """Write the card of a workflow that cannot be rendered without files: words over a darkened other card."""
    with Image.open(behind) as picture:
        card = ImageEnhance.Brightness(picture.convert("RGB")).enhance(0.35)
    font = ImageFont.load_default(size=44)
    ImageDraw.Draw(card).multiline_text(
        (SIDE / 2, SIDE / 2), text, (232, 233, 236), font, anchor="mm", align="center", spacing=14
    )
    card.save(target, quality=88, optimize=True)
