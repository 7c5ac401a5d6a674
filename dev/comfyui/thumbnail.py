"""A square picture for a workflow's card: frames of the films it has rendered over its number, title and purpose.

The card itself can only be called as the file, so the picture says the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageStat

from .graphs import Node, Workflow

SIDE, GAP, BAND = 400, 4, 84
"""pixels: of the card, between pictures, of the words below them"""
NEAR = 8
"""pictures around a place of which the sharpest is taken: what jumps or dances is soft"""
DARK, WHITE, GREY = (17, 18, 21), (240, 241, 244), (170, 174, 184)


def frames_at(film: Path, places: Sequence[float]) -> list[Image.Image]:
    """The sharpest pictures of a film near parts of its length (0 to 1), in order."""
    with av.open(str(film)) as opened:
        shown = [frame.to_image() for frame in opened.decode(video=0)]
    middles = [min(int(place * len(shown)), len(shown) - 1) for place in places]
    return [max(shown[max(0, at - NEAR) : at + NEAR + 1], key=_sharpness) for at in middles]


def _sharpness(picture: Image.Image) -> float:
    return ImageStat.Stat(picture.convert("L").filter(ImageFilter.FIND_EDGES)).var[0]


def crop(picture: Image.Image, width: int, height: int) -> Image.Image:
    """The middle of a picture in another shape."""
    scale = max(width / picture.width, height / picture.height)
    wide = picture.resize(
        (round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS
    )
    left, top = (wide.width - width) // 2, (wide.height - height) // 2
    return wide.crop((left, top, left + width, top + height))


def card(workflow: Workflow, rows: Sequence[Sequence[Image.Image]], target: Path) -> None:
    """Write rows of pictures with thin gaps, and the words below them."""
    page = Image.new("RGB", (SIDE, SIDE), DARK)
    height = (SIDE - BAND - GAP * (len(rows) - 1)) // max(1, len(rows))
    for number, row in enumerate(rows):
        width = (SIDE - GAP * (len(row) - 1)) // len(row)
        for place, picture in enumerate(row):
            page.paste(crop(picture, width, height), (place * (width + GAP), number * (height + GAP)))
    draw = ImageDraw.Draw(page)
    if not rows:
        text = next(node.inputs["timeline"] for node in workflow.nodes if node.kind == "GF_PromptTimeline")
        lines = [line.partition("|")[0].strip() for line in text.splitlines() if line and line[0] != "@"]
        words, font = "\n".join(lines), ImageFont.load_default(size=14)
        draw.multiline_text((14, 70), words, (118, 146, 178), font, spacing=24)
    title = f"{int(workflow.name.partition('_')[0])}  {workflow.title}"
    draw.text((14, SIDE - BAND + 10), title, WHITE, ImageFont.load_default(size=27))
    small, lines, line = ImageFont.load_default(size=14), [], ""
    for word in workflow.about.split():
        longer = f"{line} {word}".strip()
        if draw.textlength(longer, small) > SIDE - 28:
            lines, longer = [*lines, line], word
        line = longer
    draw.text((14, SIDE - BAND + 45), "\n".join([*lines, line]), GREY, small, spacing=3)
    page.save(target, quality=88, optimize=True)


def make_thumbnail(workflow: Workflow, output: Path, target: Path) -> None:
    """Write the card of `workflow` from the films below `output`: one film in two rows, several as a row each.

    Takes of a segment show one picture each; one that cannot run without files shows its storyboard's words.
    """
    if workflow.needs_files:
        return card(workflow, [], target)
    clips = sorted(
        clip for node in workflow.nodes if node.kind == "GF_SegmentTakes" for clip in _clips(node, output)
    )
    if clips:
        pictures = [frames_at(clip, (0.8,))[0] for clip in clips]
        return card(workflow, [pictures[:2], pictures[2:4]], target)
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
    return card(workflow, rows, target)


def _clips(node: Node, output: Path) -> list[Path]:
    folder = f"segment-{node.inputs['segment']:03d}"
    return [*(output / "grounded" / "takes" / node.inputs["take"] / folder).glob("?.mp4")]
