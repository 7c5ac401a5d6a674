"""An ablation as one picture: identity over the film's seconds, a curve per variant, and a bar per measure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ...files.atomic import write_atomic
from ..ablation import NAMES
from ..measures.bootstrap import mean_interval
from .chart import FAINT, INK, PANEL, PAPER

COLOURS = (
    (110, 168, 254), (222, 92, 84), (228, 190, 96), (72, 191, 145), (186, 130, 230), (240, 150, 90),
    (150, 225, 235), (245, 160, 200), (160, 170, 90), (200, 200, 205), (60, 110, 190), (150, 95, 70),
)  # fmt: skip
WIDTH, LEFT, TOP, HEIGHT, BAR = 1200, 60, 70, 300, 14
ABREAST = 6
"""Names in a line above the curves."""


def draw(rows: list[dict[str, Any]], columns: Mapping[str, tuple[str, float]], path: Path) -> None:
    """Draw the rows of `ablation.run` as PNG."""
    names = list(dict.fromkeys(row["variant"] for row in rows))
    block, top = 30 + (BAR + 4) * len(names), TOP + 18 * ((len(names) - 1) // ABREAST)
    image = Image.new("RGB", (WIDTH, top + HEIGHT + 90 + block * -(-len(columns) // 2)), PAPER)
    pen = ImageDraw.Draw(image)
    text = _writer(pen)
    text(LEFT, 14, "Traits kept (scarf, hat, patch) by second of film", 20)
    for number, name in enumerate(names):
        row, place = divmod(number, ABREAST)
        text(LEFT + 180 * place, 44 + 18 * row, NAMES.get(name, name), 14, COLOURS[number % len(COLOURS)])
    _curves(pen, rows, names, top)
    for place, (column, (title, times)) in enumerate(columns.items()):
        x, y = LEFT + (WIDTH // 2) * (place % 2), top + HEIGHT + 60 + block * (place // 2)
        text(x, y, title, 15)
        found = {
            name: [t * times for t in mean_interval(
                [row["measures"].get(column, []) for row in rows if row["variant"] == name]
            )] for name in names
        }  # fmt: skip
        largest = max((v for values in found.values() for v in values if not np.isnan(v)), default=0) or 1
        scale = (WIDTH // 2 - 180) / largest
        for number, (mean, low, high) in enumerate(found.values()):
            bar = y + 24 + (BAR + 4) * number
            if np.isnan(mean):
                continue
            pen.rectangle((x, bar, x + max(1, mean * scale), bar + BAR), fill=COLOURS[number % len(COLOURS)])
            if not np.isnan(low):
                pen.line((x + low * scale, bar + BAR / 2, x + high * scale, bar + BAR / 2), fill=INK, width=2)
            right = mean if np.isnan(high) else max(mean, high)
            text(x + right * scale + 8, bar - 2, f"{mean:.3g}", 13, FAINT)
    write_atomic(path, lambda part: image.save(part, format="PNG"))


def _curves(pen: ImageDraw.ImageDraw, rows: list[dict[str, Any]], names: list[str], top: float) -> None:
    text = _writer(pen)
    pen.rectangle((LEFT, top, WIDTH - 30, top + HEIGHT), fill=PANEL)
    curves: dict[str, dict[int, list[float]]] = {name: {} for name in names}
    for row in rows:
        for second, value in row["measures"]["identity_by_second"]:
            curves[row["variant"]].setdefault(second, []).append(value)
    last = max((second for curve in curves.values() for second in curve), default=1) or 1
    for share in (0, 25, 50, 75, 100):
        y = top + HEIGHT * (1 - share / 100)
        pen.line((LEFT, y, WIDTH - 30, y), fill=FAINT, width=1)
        text(LEFT - 44, y - 8, f"{share} %", 12, FAINT)
    for number, name in enumerate(names):
        points = [
            (LEFT + (WIDTH - 30 - LEFT) * second / last, top + HEIGHT * (1 - float(np.mean(values))))
            for second, values in sorted(curves[name].items())
        ]
        if len(points) > 1:
            pen.line(points, fill=COLOURS[number % len(COLOURS)], width=3, joint="curve")
    for second in np.linspace(0, last, 7):
        text(LEFT + (WIDTH - 30 - LEFT) * second / last - 10, top + HEIGHT + 6, f"{second:.0f} s", 12, FAINT)


def _writer(pen: ImageDraw.ImageDraw) -> Any:
    def text(x: float, y: float, words: str, size: int, fill: tuple[int, int, int] = INK) -> None:
        pen.text((x, y), words, font=ImageFont.load_default(size), fill=fill)

    return text
