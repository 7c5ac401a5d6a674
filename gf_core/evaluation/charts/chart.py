"""The verdict as one picture: film strip, what follows the prompt, identity per second, colour drift.
Drawn with pillow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ...files.atomic import write_atomic
from ...timeline import BEGIN_SHOT
from ...words import clock, counted
from ...world.vocabulary import IDENTITY, PROMPTED
from ..report import name_of, percent

WIDTH = 1400
LEFT, RIGHT = 150, 40
INK, PAPER, FAINT, PANEL = (232, 234, 240), (18, 20, 26), (126, 132, 148), (30, 33, 42)
GOOD, BAD, LINE = (72, 191, 145), (222, 92, 84), (110, 168, 254)
ROW = 30
THUMB = 112


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def _mix(share: float) -> tuple[int, int, int]:
    """0 -> BAD, 1 -> GOOD, through a muted yellow, so that 0.5 is not mud."""
    middle = (228, 190, 96)
    low, high, t = (BAD, middle, share * 2) if share < 0.5 else (middle, GOOD, share * 2 - 1)
    return tuple(round(a + (b - a) * t) for a, b in zip(low, high))  # type: ignore[return-value]


class Page:
    """A canvas with a time axis and a cursor that moves down."""

    def __init__(self, result: dict) -> None:
        self.result = result
        self.seconds = max(result["seconds"], 1e-6)
        self.image = Image.new("RGB", (WIDTH, 2200), PAPER)
        self.draw = ImageDraw.Draw(self.image)
        self.y = 28

    def begin(self, title: str, pictures: Mapping[int, np.ndarray]) -> None:
        """Title, length, and the film strip of these pictures uint8 [H W 3] by number."""
        self.text(28, self.y, title, 26)
        length = f"{self.result['seconds']:.2f} s, {counted(self.result['frames'], 'picture')}"
        self.text(WIDTH - RIGHT, self.y + 10, length, 15, FAINT, "ra")
        self.y += 50
        film_strip(self, pictures)

    def cropped(self) -> Image.Image:
        """What was drawn, down to the cursor."""
        return self.image.crop((0, 0, WIDTH, min(self.y, self.image.height)))

    def x(self, second: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * min(max(second / self.seconds, 0.0), 1.0)

    def text(
        self, x: float, y: float, text: str, size: int = 15, fill: tuple = INK, anchor: str = "la"
    ) -> None:
        self.draw.text((x, y), text, font=_font(size), fill=fill, anchor=anchor)

    def curve(self, points: Sequence[tuple[float, float]]) -> None:
        """A line through points, each of which is a dot."""
        if len(points) > 1:
            self.draw.line(points, fill=LINE, width=3, joint="curve")
        for x, y in points:
            self.draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=LINE)

    def fitting(self, text: str, width: float) -> str:
        """`text`, shortened with an ellipsis to `width` pixels; empty when nothing readable fits."""
        font = _font(13)
        if font.getlength(text) <= width:
            return text
        while text and font.getlength(text + "…") > width:
            text = text[:-1]
        return text.rstrip() + "…" if len(text) > 2 else ""

    def heading(self, text: str, note: str = "") -> None:
        self.y += 26
        self.text(28, self.y, text, 18)
        self.text(28 + _font(18).getlength(text) + 16, self.y + 3, note, 14, FAINT)
        self.y += 32

    def boundaries(self, top: float, bottom: float) -> None:
        """Thin lines where segments begin; cuts and scenes are brighter."""
        for segment in self.result["segments"][1:]:
            hard = segment["verb"] in BEGIN_SHOT
            x = self.x(segment["start_seconds"])
            self.draw.line((x, top, x, bottom), fill=INK if hard else FAINT, width=2 if hard else 1)

    def panel(self, height: float, low: float, high: float) -> Callable[[float], float]:
        """A box for curves of values from `low` to `high`, which stand beside it; gives where a value lies in it."""
        top = self.y
        self.draw.rounded_rectangle((LEFT, top, WIDTH - RIGHT, top + height), 6, fill=PANEL)
        self.text(LEFT - 10, top, f"{high:.2f}", 12, FAINT, "ra")
        self.text(LEFT - 10, top + height - 14, f"{low:.2f}" if low else "0", 12, FAINT, "ra")
        return lambda value: top + height - 4 - (height - 8) * (value - low) / (high - low)

    def cell(self, left: float, right: float, fill: tuple, text: str = "") -> None:
        self.draw.rounded_rectangle(
            (left + 1, self.y, max(right - 1, left + 2), self.y + ROW - 4), 4, fill=fill
        )
        if text:
            shown = self.fitting(text, right - left - 10)
            self.text((left + right) / 2, self.y + (ROW - 4) / 2, shown, 13, PAPER, "mm")


def film_strip(page: Page, frames: Mapping[int, np.ndarray]) -> None:
    """As many pictures of each segment as its length holds, verb and prompt under them."""
    top = page.y
    for segment in page.result["segments"]:
        start, seconds = segment["start_seconds"], segment["seconds"]
        left, room = page.x(start) + 2, page.x(start + seconds) - page.x(start) - 4
        if not frames or room < 8:
            continue
        count = max(1, int(room // (THUMB + 4)))
        for i in range(count):
            at = int((start + seconds * (i + 0.5) / count) * page.result["fps"])
            picture = Image.fromarray(frames[min(frames, key=lambda number: abs(number - at))])
            height = max(1, round(THUMB * picture.height / picture.width))
            picture = picture.resize((THUMB, height), Image.Resampling.LANCZOS)
            if room < THUMB:  # too short for a whole picture: its middle
                picture = picture.crop(((THUMB - int(room)) // 2, 0, (THUMB + int(room)) // 2, height))
            page.image.paste(picture, (int(left + i * room / count), int(top)))
            page.y = max(page.y, top + height)
    page.y += 8
    for segment in page.result["segments"]:
        left, right = page.x(segment["start_seconds"]), page.x(segment["start_seconds"] + segment["seconds"])
        verb = "" if segment["verb"] == "start" else f"{segment['verb']}: "
        page.text(left + 3, page.y, page.fitting(verb + segment["prompt"], right - left - 8), 13, FAINT)
    page.y += 24


def _prompts(page: Page) -> None:
    shares = page.result["adherence"]
    page.heading(
        "Follows the prompt", "   ".join(f"{name} {percent(value)}" for name, value in shares.items())
    )
    top = page.y
    for name in PROMPTED:
        page.text(28, page.y + 4, name, 15, FAINT)
        for segment in page.result["segments"]:
            cell = segment["read"][name]
            left = page.x(segment["start_seconds"])
            right = page.x(segment["start_seconds"] + segment["seconds"])
            if cell["right"] is None:
                page.cell(left, right, PANEL)
            elif cell["right"]:
                page.cell(left, right, GOOD, name_of(name, cell["asked"]))
            else:
                page.cell(
                    left, right, BAD, f"{name_of(name, cell['read'])}, not {name_of(name, cell['asked'])}"
                )
        page.y += ROW
    page.boundaries(top - 2, page.y - 2)


def _identity(page: Page) -> None:
    identity = page.result["identity"]
    known = [f"{name} {percent(identity[name])}" for name in ("hidden", *IDENTITY) if name in identity]
    page.heading("Stays the same character", "   ".join(known))
    top = page.y
    for name in IDENTITY:
        page.text(28, page.y + 4, name, 15, FAINT)
        for row in page.result["identity_by_second"]:
            page.cell(page.x(row["second"]), page.x(row["second"] + row["length"]), _mix(row[name]))
        page.y += ROW
    page.boundaries(top - 2, page.y - 2)


def _picture(page: Page) -> None:
    picture = page.result["picture"]
    loud = ", ".join(f"{value:.1f}" for value in picture["loudness"]) or "no switch"
    note = f"colour drift {picture['colour_drift']:.3f}   flicker {picture['flicker']:.4f}   "
    note += f"loudness of switches {loud}"
    page.heading("The picture holds", note)
    top, height = page.y, 90
    values = [v for shot in picture["colour_drift_by_second"] for v in shot]
    lies = page.panel(height, 0, max(0.1, *values) if values else 0.1)
    page.text(28, top, "colour drift", 15, FAINT)
    starts = [
        s["start_seconds"] for i, s in enumerate(page.result["segments"]) if i == 0 or s["verb"] in BEGIN_SHOT
    ]
    for start, shot in zip(starts, picture["colour_drift_by_second"]):
        page.curve([(page.x(start + i + 0.5), lies(v)) for i, v in enumerate(shot)])
    page.boundaries(top, top + height)
    page.y = top + height + 8
    axis(page)


def axis(page: Page) -> None:
    """Film time under what was drawn."""
    step = next(
        s for s in (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 3600) if page.seconds / s <= 16 or s == 3600
    )
    for second in range(0, int(page.seconds) + 1, step):
        page.text(page.x(second), page.y, clock(second), 12, FAINT, "ma")
    page.y += 30


def draw_chart(result: dict, path: Path, frames: np.ndarray) -> None:
    """Draw the result of `evaluate_film`; `frames` uint8 [t h w 3] fill the film strip."""
    page = Page(result)
    page.begin(result["film"], dict(enumerate(frames)))
    _prompts(page)
    _identity(page)
    _picture(page)
    write_atomic(path, lambda part: page.cropped().save(part, format="PNG"))
