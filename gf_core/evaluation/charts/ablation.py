"""An ablation as one picture: identity over the film's seconds, a curve per variant, and a bar per measure.

Colours repeat where there are very many variants, so each has a number, which stands at its curve's end and its bars.
"""

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
LINE = 14
"""Pixels from one number to the next below it."""


def draw(rows: list[dict[str, Any]], columns: Mapping[str, tuple[str, float]], path: Path) -> None:
    """Draw the rows of `ablation.run` as PNG."""
    names = list(dict.fromkeys(row["variant"] for row in rows))
    told = [f"{number}  {NAMES.get(name, name)}" for number, name in enumerate(names, 1)]
    wide = 20 + int(max(ImageFont.load_default(14).getlength(name) for name in told))
    abreast = max(1, (WIDTH - LEFT) // wide)  # names in a line above the curves
    block, top = 30 + (BAR + 4) * len(names), TOP + 18 * ((len(names) - 1) // abreast)
    height = max(HEIGHT, LINE * len(names))
    image = Image.new("RGB", (WIDTH, top + height + 90 + block * -(-len(columns) // 2)), PAPER)
    pen = ImageDraw.Draw(image)
    text = _writer(pen)
    text(LEFT, 14, "Traits kept (scarf, hat, patch) by second of film", 20)
    for number, name in enumerate(told):
        row, place = divmod(number, abreast)
        text(LEFT + wide * place, 44 + 18 * row, name, 14, COLOURS[number % len(COLOURS)])
    _curves(pen, rows, names, top, height)
    for place, (column, (title, times)) in enumerate(columns.items()):
        x, y = LEFT + (WIDTH // 2) * (place % 2), top + height + 60 + block * (place // 2)
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
            text(x - 24, bar, f"{number + 1}", 12, FAINT)
            if np.isnan(mean):
                continue
            pen.rectangle((x, bar, x + max(1, mean * scale), bar + BAR), fill=COLOURS[number % len(COLOURS)])
            if not np.isnan(low):
                pen.line((x + low * scale, bar + BAR / 2, x + high * scale, bar + BAR / 2), fill=INK, width=2)
            right = mean if np.isnan(high) else max(mean, high)
            text(x + right * scale + 8, bar - 2, f"{mean:.3g}", 13, FAINT)
    write_atomic(path, lambda part: image.save(part, format="PNG"))


def _curves(
    pen: ImageDraw.ImageDraw, rows: list[dict[str, Any]], names: list[str], top: float, height: float
) -> None:
    text = _writer(pen)
    pen.rectangle((LEFT, top, WIDTH - 30, top + height), fill=PANEL)
    curves: dict[str, dict[int, list[float]]] = {name: {} for name in names}
    for row in rows:
        for second, value in row["measures"]["identity_by_second"]:
            curves[row["variant"]].setdefault(second, []).append(value)
    last = max((second for curve in curves.values() for second in curve), default=1) or 1
    for share in (0, 25, 50, 75, 100):
        y = top + height * (1 - share / 100)
        pen.line((LEFT, y, WIDTH - 30, y), fill=FAINT, width=1)
        text(LEFT - 44, y - 8, f"{share} %", 12, FAINT)
    ends = list[tuple[float, int]]()
    for number, name in enumerate(names):
        points = [
            (LEFT + (WIDTH - 30 - LEFT) * second / last, top + height * (1 - float(np.mean(values))))
            for second, values in sorted(curves[name].items())
        ]
        if len(points) > 1:
            pen.line(points, fill=COLOURS[number % len(COLOURS)], width=3, joint="curve")
            ends.append((points[-1][1], number))
    for (_, number), y in zip(sorted(ends), _apart(sorted(y for y, _ in ends), top, height)):
        text(WIDTH - 24, y - LINE / 2, f"{number + 1}", 12, COLOURS[number % len(COLOURS)])
    for second in np.linspace(0, last, 7):
        text(LEFT + (WIDTH - 30 - LEFT) * second / last - 10, top + height + 6, f"{second:.0f} s", 12, FAINT)


def _apart(wanted: list[float], top: float, height: float) -> list[float]:
    """Heights near the `wanted` ones, from above, but at least a line apart; all within the panel."""
    steps = LINE * np.arange(len(wanted)) + LINE / 2
    free = np.clip(np.array(wanted) - steps, top, top + height - LINE * len(wanted))
    # What is pushed down by those above, and what is pushed up by those below: the middle is as far apart.
    down, up = np.maximum.accumulate(free), np.minimum.accumulate(free[::-1])[::-1]
    return list((down + up) / 2 + steps)


def _writer(pen: ImageDraw.ImageDraw) -> Any:
    def text(x: float, y: float, words: str, size: int, fill: tuple[int, int, int] = INK) -> None:
        pen.text((x, y), words, font=ImageFont.load_default(size), fill=fill)

    return text
