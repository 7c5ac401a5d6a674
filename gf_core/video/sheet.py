"""A contact sheet: the film on one dark page, a row of frames per segment, its verb and prompt below."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..errors import ResourceError
from ..words import clock

BACKGROUND = (17, 18, 21)
PANEL = (30, 32, 37)
INK = (232, 233, 236)
FAINT = (139, 143, 152)
VERB_COLOURS = {
    "start": (108, 182, 255),
    "then": (126, 200, 140),
    "cut": (255, 176, 92),
    "scene": (226, 128, 196),
}
"""One colour per verb; the bar beside a row and its verb wear it."""
TYPEWRITER = str.maketrans({"–": "-", "—": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "…": "...", "→": ">"})
"""Marks that Pillow's font has no shape for, as it can show them."""
MARGIN, GAP, BAR = 36, 8, 4
ROW_GAP, TEXT_GAP = 30, 12
RADIUS = 6


class SheetRow(NamedTuple):
    """One segment; a plain `(caption, frames)` tuple does as well."""

    caption: str
    """The prompt; wrapped to the width of the row."""
    frames: Sequence[np.ndarray]
    """uint8 [H W 3] each, all rows the same size."""
    verb: str = ""
    """start, then, cut or scene; chooses the colour."""
    times: Sequence[float] = ()
    """Seconds of each frame in the film, printed on it."""
    span: str = ""
    """Printed at the right end of the caption, e.g. `0:05 - 0:10`."""


def face(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font, so that a sheet looks the same on every machine."""
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise ResourceError(
            "this Pillow has no FreeType to draw text with", "install Pillow from its own wheel"
        )
    return font


def _pieces(word: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """`word` in pieces no wider than `width`; languages written without spaces need it."""
    pieces = [""]
    for letter in word:
        if pieces[-1] and font.getlength(pieces[-1] + letter) > width:
            pieces.append("")
        pieces[-1] += letter
    return pieces


def wrap(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """`text` in lines no wider than `width` pixels."""
    lines = [""]
    for word in text.split():
        for number, piece in enumerate(_pieces(word, font, width)):
            candidate = f"{lines[-1]} {piece}".strip()
            if number or (lines[-1] and font.getlength(candidate) > width):
                lines.append(piece)
            else:
                lines[-1] = candidate
    return lines


def _rounded(size: tuple[int, int]) -> Image.Image:
    """Mask with smooth round corners, drawn four times too large."""
    large = Image.new("L", (size[0] * 4, size[1] * 4), 0)
    box = (0, 0, large.width - 1, large.height - 1)
    ImageDraw.Draw(large).rounded_rectangle(box, RADIUS * 4, fill=255)
    return large.resize(size, Image.Resampling.LANCZOS)


class _Page:
    """Fonts and measures of one sheet."""

    def __init__(self, rows: Sequence[SheetRow], thumb_width: int, title: str, subtitle: str) -> None:
        height, width = rows[0].frames[0].shape[:2]
        self.rows, self.title, self.subtitle = rows, title, subtitle
        self.thumb = (thumb_width, max(1, round(thumb_width * height / width)))
        self.columns = max(len(row.frames) for row in rows)
        self.text_size = max(13, round(thumb_width / 17))
        self.body = face(self.text_size)
        self.small = face(max(11, round(self.text_size * 0.72)))
        self.large = face(round(self.text_size * 1.7))
        self.line = round(self.text_size * 1.4)
        self.inner = self.columns * self.thumb[0] + (self.columns - 1) * GAP
        self.left = MARGIN + BAR + TEXT_GAP
        self.mask = _rounded(self.thumb)
        self.captions = [wrap(row.caption, self.body, self._caption_width(row)) for row in rows]

    @property
    def width(self) -> int:
        return self.left + self.inner + MARGIN

    @property
    def head(self) -> int:
        """Pixels above the first row."""
        lines = (self.line * 1.5 if self.title else 0) + (self.line if self.subtitle else 0)
        return MARGIN + (round(lines) + TEXT_GAP if lines else 0)

    @property
    def height(self) -> int:
        return (
            self.head
            + sum(map(self.row_height, range(len(self.rows))))
            + ROW_GAP * (len(self.rows) - 1)
            + MARGIN
        )

    def row_height(self, index: int) -> int:
        return self.thumb[1] + TEXT_GAP + self.line * len(self.captions[index])

    def verb_width(self, row: SheetRow) -> int:
        return round(self.body.getlength(row.verb)) + TEXT_GAP if row.verb else 0

    def _caption_width(self, row: SheetRow) -> float:
        span = self.small.getlength(row.span) + 2 * TEXT_GAP if row.span else 0
        return self.inner - self.verb_width(row) - span

    def draw(self) -> Image.Image:
        image = Image.new("RGB", (self.width, self.height), BACKGROUND)
        pen = ImageDraw.Draw(image)
        if self.title:
            pen.text((MARGIN, MARGIN), self.title, INK, self.large)
        if self.subtitle:
            y = MARGIN + (self.line * 1.5 if self.title else 0)
            pen.text((MARGIN, y), self.subtitle, FAINT, self.body)
        top = self.head
        for index in range(len(self.rows)):
            self._draw_row(image, pen, index, top)
            top += self.row_height(index) + ROW_GAP
        return image

    def _draw_row(self, image: Image.Image, pen: ImageDraw.ImageDraw, index: int, top: int) -> None:
        row = self.rows[index]
        colour = VERB_COLOURS.get(row.verb, FAINT)
        bottom = top + self.row_height(index)
        pen.rounded_rectangle((MARGIN, top, MARGIN + BAR - 1, bottom - 1), BAR / 2, fill=colour)
        for column in range(self.columns):
            place = (self.left + column * (self.thumb[0] + GAP), top)
            if column < len(row.frames):
                picture = Image.fromarray(np.ascontiguousarray(row.frames[column]))
                image.paste(picture.resize(self.thumb, Image.Resampling.LANCZOS), place, self.mask)
                if column < len(row.times):
                    self._stamp(image, place, clock(row.times[column], tenths=True))
            else:
                image.paste(PANEL, (*place, place[0] + self.thumb[0], place[1] + self.thumb[1]), self.mask)
        text_top = top + self.thumb[1] + TEXT_GAP
        if row.verb:
            pen.text((self.left, text_top), row.verb, colour, self.body)
        for number, line in enumerate(self.captions[index]):
            pen.text((self.left + self.verb_width(row), text_top + number * self.line), line, INK, self.body)
        if row.span:
            pen.text(
                (self.left + self.inner, text_top + self.text_size), row.span, FAINT, self.small, anchor="rs"
            )

    def _stamp(self, image: Image.Image, place: tuple[int, int], text: str) -> None:
        """Time in the lower left corner of a frame, on a dark veil so that it reads on snow as well."""
        inset, pad = 7, 5
        width = round(self.small.getlength(text)) + 2 * pad
        height = round(self.small.size) + 2 * pad - 2
        box = (place[0] + inset, place[1] + self.thumb[1] - inset - height)
        corner = (box[0] + width, box[1] + height)
        veil = Image.new("RGB", (width, height), BACKGROUND)
        image.paste(Image.blend(image.crop((*box, *corner)), veil, 0.62), box)
        ImageDraw.Draw(image).text((box[0] + pad, box[1] + height / 2), text, INK, self.small, anchor="lm")


def contact_sheet(
    rows: Sequence[SheetRow | tuple[str, Sequence[np.ndarray]]], path: str | Path, *,
    title: str = "", subtitle: str = "", thumb_width: int = 288,
) -> Path:  # fmt: skip
    """Draw `rows` to the image file `path` (PNG by its suffix) and return it.

    The page is as wide as the longest row, `columns * thumb_width` plus margins; captions set its height.

    Raises:
        ValueError: no row, or a row without frames.
    """
    whole = [row if isinstance(row, SheetRow) else SheetRow(*row) for row in rows]
    whole = [
        row._replace(caption=row.caption.translate(TYPEWRITER), span=row.span.translate(TYPEWRITER))
        for row in whole
    ]
    if not whole or any(not len(row.frames) for row in whole):
        raise ValueError("a contact sheet needs at least one row, and every row a frame")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _Page(whole, thumb_width, title.translate(TYPEWRITER), subtitle.translate(TYPEWRITER)).draw().save(path)
    return path
