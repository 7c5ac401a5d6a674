"""A contact sheet: the film on one dark page, a row of frames per segment, its verb and prompt below."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..errors import ResourceError, TakeError
from ..timeline.verbs import VERBS
from ..words import clock
from .pixels import preview
from .png import Strip, pack, write_png
from .reader import FilmInfo, pick_frames

BACKGROUND = (17, 18, 21)
PANEL = (30, 32, 37)
INK = (232, 233, 236)
FAINT = (139, 143, 152)
VERB_COLOURS: dict[str, tuple[int, int, int]] = {verb: row.colour for verb, row in VERBS.items()}
"""The bar beside a row and its verb wear it."""
TYPEWRITER = str.maketrans({"–": "-", "—": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "…": "...", "→": ">"})
"""Marks that Pillow's font has no shape for, as it can show them."""
THUMB_WIDTH = 288
"""Of a picture on the page, in pixels."""
TEXT_SIZE = 17
"""Of prompts, in pixels."""
LARGEST = 640
"""Of a picture from which that is made, its longer side in pixels."""
MARGIN, GAP, BAR = 36, 8, 4
ROW_GAP, TEXT_GAP = 30, 12
RADIUS = 6
NEAR = 0.9
"""Share of a line's width up to which the sum of its words says that it fits."""


class SheetRow(NamedTuple):
    """One segment."""

    caption: str
    """The prompt; wrapped to the width of the row."""
    frames: Sequence[np.ndarray]
    """uint8 [H W 3] each, all rows the same size."""
    verb: str = ""
    """start, then, cut, scene or `back to 2`; its first word chooses the colour."""
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
    pieces, start, usual = list[str](), 0, 128
    while start < len(word):
        # As many letters as fit, sought from as many as fitted before: measuring takes time for each of them.
        least, most, step, found = 1, len(word) - start, 2, False
        guess = min(usual, most)
        while least < most:
            if font.getlength(word[start : start + guess]) > width:
                most, found = max(least, guess - 1), True
            else:
                least = guess
            guess, step = (least + most + 1) // 2 if found else min(guess + step, most), 2 * step
        pieces.append(word[start : start + least])
        start, usual = start + least, least
    return pieces


def wrap(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """`text` in lines no wider than `width` pixels."""
    lines, about, gap = [""], 0.0, font.getlength(" ")
    for word in text.split():
        for number, piece in enumerate(_pieces(word, font, width)):
            length = font.getlength(piece)
            candidate = f"{lines[-1]} {piece}".strip()
            # The whole line is measured where its words and gaps come near: letters move together by less than that.
            near = about + gap + length > NEAR * width
            if number or (lines[-1] and near and font.getlength(candidate) > width):
                lines.append(piece)
                about = length
            else:
                about += gap + length if lines[-1] else length
                lines[-1] = candidate
    return lines


def _rounded(size: tuple[int, int]) -> Image.Image:
    """Mask with smooth round corners, drawn four times too large."""
    large = Image.new("L", (size[0] * 4, size[1] * 4), 0)
    box = (0, 0, large.width - 1, large.height - 1)
    ImageDraw.Draw(large).rounded_rectangle(box, RADIUS * 4, fill=255)
    return large.resize(size, Image.Resampling.LANCZOS)


class Page:
    """Fonts and measures of one sheet, drawn strip by strip.

    columns: pictures of its longest row. thumb: width and height of each.
    """

    def __init__(self, columns: int, thumb: tuple[int, int]) -> None:
        self.columns, self.thumb = columns, thumb
        self.body = face(TEXT_SIZE)
        self.small = face(round(TEXT_SIZE * 0.72))
        self.large = face(round(TEXT_SIZE * 1.7))
        self.line = round(TEXT_SIZE * 1.4)
        self.inner = self.columns * self.thumb[0] + (self.columns - 1) * GAP
        self.left = MARGIN + BAR + TEXT_GAP
        self.mask = _rounded(self.thumb)

    def _strip(self, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
        """An empty part of the page, as wide as the page, and a pen for it."""
        image = Image.new("RGB", (self.left + self.inner + MARGIN, height), BACKGROUND)
        return image, ImageDraw.Draw(image)

    def write(self, path: Path, title: str, subtitle: str, rows: Iterable[Strip]) -> None:
        """Write the PNG file `path`: a heading, and `rows` below each other."""
        path.parent.mkdir(parents=True, exist_ok=True)
        head = self._heading(title.translate(TYPEWRITER), subtitle.translate(TYPEWRITER))
        write_png(path, chain([pack(head)], rows, [pack(self._strip(MARGIN - ROW_GAP)[0])]))

    def _heading(self, title: str, subtitle: str) -> Image.Image:
        under = self.line * 1.5 if title else 0
        lines = under + (self.line if subtitle else 0)
        image, pen = self._strip(MARGIN + (round(lines) + TEXT_GAP if lines else 0))
        pen.text((MARGIN, MARGIN), title, INK, self.large)
        pen.text((MARGIN, MARGIN + under), subtitle, FAINT, self.body)
        return image

    def row(self, row: SheetRow) -> Strip:
        """The row's frames, below them verb, caption and span, then the gap to the next row."""
        row = row._replace(caption=row.caption.translate(TYPEWRITER), span=row.span.translate(TYPEWRITER))
        indent = round(self.body.getlength(row.verb)) + TEXT_GAP if row.verb else 0
        span = self.small.getlength(row.span) + 2 * TEXT_GAP if row.span else 0
        lines = wrap(row.caption, self.body, self.inner - indent - span)
        text_top = self.thumb[1] + TEXT_GAP
        height = text_top + self.line * len(lines)
        image, pen = self._strip(height + ROW_GAP)
        colour = VERB_COLOURS.get(row.verb.partition(" ")[0], FAINT)
        pen.rounded_rectangle((MARGIN, 0, MARGIN + BAR - 1, height - 1), BAR / 2, fill=colour)
        for column in range(self.columns):
            place = (self.left + column * (self.thumb[0] + GAP), 0)
            if column < len(row.frames):
                picture = Image.fromarray(np.ascontiguousarray(row.frames[column]))
                image.paste(picture.resize(self.thumb, Image.Resampling.LANCZOS), place, self.mask)
                if column < len(row.times):
                    self._stamp(image, place[0], clock(row.times[column], tenths=True))
            else:
                image.paste(PANEL, (*place, place[0] + self.thumb[0], self.thumb[1]), self.mask)
        pen.text((self.left, text_top), row.verb, colour, self.body)
        for number, line in enumerate(lines):
            pen.text((self.left + indent, text_top + number * self.line), line, INK, self.body)
        place = (self.left + self.inner, text_top + TEXT_SIZE)
        pen.text(place, row.span, FAINT, self.small, anchor="rs")
        return pack(image)

    def _stamp(self, image: Image.Image, left: int, text: str) -> None:
        """Time in the lower left corner of a frame, on a dark veil so that it reads on snow as well."""
        inset, pad = 7, 5
        width = round(self.small.getlength(text)) + 2 * pad
        height = round(self.small.size) + 2 * pad - 2
        box = (left + inset, self.thumb[1] - inset - height)
        corner = (box[0] + width, box[1] + height)
        veil = Image.new("RGB", (width, height), BACKGROUND)
        image.paste(Image.blend(image.crop((*box, *corner)), veil, 0.62), box)
        ImageDraw.Draw(image).text((box[0] + pad, box[1] + height / 2), text, INK, self.small, anchor="lm")


def contact_sheet(rows: Sequence[SheetRow], path: str | Path, *, title: str = "", subtitle: str = "") -> Path:
    """Draw `rows` to the PNG file `path` and return it.

    The page is as wide as the longest row, `columns * THUMB_WIDTH` plus margins; captions set its height.

    Raises ValueError: no row, or a row without frames.
    """
    if not rows or any(not len(row.frames) for row in rows):
        raise ValueError("a contact sheet needs at least one row, and every row a frame")
    path, (height, width) = Path(path), rows[0].frames[0].shape[:2]
    page = Page(max(len(row.frames) for row in rows), thumb_size(width, height))
    page.write(path, title, subtitle, map(page.row, rows))
    return path


def film_page(film: FilmInfo, columns: int) -> Page:
    """The page of rows that `film_row` reads from such a film, the longest of `columns` pictures."""
    # The size that such pictures come to, by the one function that makes them.
    height, width = preview(np.broadcast_to(np.uint8(0), (1, film.height, film.width, 3)), LARGEST).shape[1:3]
    return Page(columns, thumb_size(width, height))


def _small(picture: np.ndarray) -> np.ndarray:
    size = thumb_size(*picture.shape[1::-1])
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize(size, Image.Resampling.LANCZOS))


def thumb_size(width: int, height: int) -> tuple[int, int]:
    """Width and height on a sheet of a picture of this size."""
    return THUMB_WIDTH, max(1, round(THUMB_WIDTH * height / width))


def spread(shown: range, count: int) -> list[int]:
    """Numbers of `count` pictures spread evenly over pictures `shown`; of fewer, all of them."""
    return sorted({round(at) for at in np.linspace(shown.start, shown.stop - 1, count)})


def film_row(
    film: str | Path,
    shown: range,
    fps: float | Fraction,
    caption: str,
    verb: str,
    span: str,
    count: int = 6,
) -> SheetRow:
    """A row of `count` pictures spread evenly over pictures `shown` of `film`.

    Raises TakeError: none of them can be read.
    """
    picked = pick_frames(film, spread(shown, count))
    found = {at: _small(preview(picture[None], LARGEST)[0]) for at, picture in picked.items()}
    if not found:
        raise TakeError(
            f"{Path(film).name} cannot be read back for its contact sheet", "render the film again"
        )
    times = [float(at / fps) for at in sorted(found)]
    return SheetRow(caption, [found[at] for at in sorted(found)], verb, times, span)
