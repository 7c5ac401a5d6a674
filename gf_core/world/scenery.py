"""Drawing of the six places at three times of day: a still picture a shot, and the few things that move.

Everything is soft and large: gradients, round hills, thick trunks, so that a small codec can keep it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .canvas import Array, Canvas, Colour, Frame
from .script import Place
from .vocabulary import NIGHT, NOON, PLACES, SUNSET

HEIGHT, WIDTH = 64, 96
GROUND = 57.5
CLOUD_ROWS = 20
WAVE_TOP, WAVE_BOTTOM = 33, 51

_SKY = (
    ((86, 166, 240), (150, 206, 248), (206, 236, 252)),
    ((98, 74, 150), (236, 124, 106), (255, 206, 128)),
    ((14, 18, 54), (28, 38, 88), (58, 74, 130)),
)
_LIGHT = ((1.0, 1.0, 1.0), (1.0, 0.78, 0.68), (0.40, 0.44, 0.70))
CHARACTER_LIGHT = ((1.0, 1.0, 1.0), (1.0, 0.93, 0.88), (0.80, 0.84, 0.97))
_TINT = ((1.0, 1.0, 1.0), (1.04, 0.97, 0.86), (0.92, 0.99, 1.06))
_CLOUD = (((255, 255, 255), 0.9), ((255, 196, 176), 0.8), ((70, 84, 138), 0.75))
_SUN_X = (16.0, 48.0, 80.0)


@dataclass(frozen=True)
class Scenery:
    """One shot's surroundings."""

    back: Array
    "Opaque picture behind everything that moves, float32 [h, w, 3], 0..255."
    front: Array
    "Premultiplied hills and props in front of clouds and waves, float32 [h, w, 4]."
    place: Place
    "What was drawn."


def _rows(stops: tuple[Colour, ...], top: int, bottom: int) -> Array:
    at = np.linspace(0, 1, bottom - top)
    knots = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(at, knots, [stop[i] for stop in stops]) for i in range(3)], -1)


class _Land(Canvas):
    """A full-frame canvas with hills, trees and houses."""

    def __init__(self) -> None:
        super().__init__(HEIGHT, WIDTH, Frame.still())
        self._lit: list[tuple[float, float]] = []

    def window(self, x: float, y: float, lit: bool) -> None:
        """A window; a lit one glows when `light_windows` is called after the night has been laid over."""
        self.box(x, y, 2.3, 2.4, (170, 206, 232), radius=0.6)
        if lit:
            self._lit.append((x, y))

    def light_windows(self) -> None:
        """Turn on the lights."""
        for x, y in self._lit:
            self.ellipse(x, y, 5.0, 5.0, (255, 190, 90), alpha=0.22, soft=6.0)
        for x, y in self._lit:
            self.box(x, y, 2.3, 2.4, (255, 216, 118), radius=0.6)

    def hill(
        self, base: float, height: float, length: float, shift: float, colour: Colour, fade: float = 0.0
    ) -> None:
        """Rolling ground from a wavy crest down to the lower edge, lighter at the crest by `fade`."""

        def distance(u: Array, v: Array) -> Array:
            crest = base - height * np.sin((u + shift) * (2 * np.pi / length))
            return crest - v

        self.paint((0, base - abs(height), WIDTH, HEIGHT + 8.0), distance, colour, light=fade)

    def conifer(self, x: float, base: float, size: float, colour: Colour, cap: Colour | None = None) -> None:
        self.box(x, base - size * 0.1, size * 0.09 + 0.8, size * 0.16, (112, 76, 50))
        for low, wide in ((0.14, 0.36), (0.38, 0.29), (0.62, 0.21)):
            y = base - size * low
            tip = y - size * 0.4
            self.polygon(((x, tip), (x + size * wide, y), (x - size * wide, y)), colour, rim=0.18, grow=0.6)
            if cap:
                k = 0.55
                self.polygon(
                    (
                        (x, tip),
                        (x + size * wide * k, tip + size * 0.4 * k),
                        (x - size * wide * k, tip + size * 0.4 * k),
                    ),
                    cap,
                    grow=0.6,
                )

    def round_tree(self, x: float, base: float, size: float, colour: Colour) -> None:
        self.box(x, base - size * 0.3, size * 0.09 + 0.6, size * 0.34, (120, 82, 52), radius=1.2)
        dark: Colour = (0.86 * colour[0], 0.86 * colour[1], 0.86 * colour[2])
        self.ellipse(x + size * 0.2, base - size * 0.66, size * 0.3, size * 0.27, dark, rim=0.15)
        self.ellipse(
            x - size * 0.14, base - size * 0.72, size * 0.36, size * 0.33, colour, rim=0.18, light=0.16
        )

    def cactus(self, x: float, base: float, size: float) -> None:
        colour: Colour = (74, 150, 84)
        self.line(x, base, x, base - size, 2.9, colour, rim=0.25)
        for side, at in ((-1.0, 0.42), (1.0, 0.58)):
            self.line(x, base - size * at, x + side * 6, base - size * at, 2.0, colour, rim=0.2)
            self.line(
                x + side * 6, base - size * at, x + side * 6, base - size * (at + 0.28), 2.0, colour, rim=0.2
            )

    def palm(self, x: float, base: float, size: float, lean: float) -> None:
        top_x, top_y = x + lean, base - size
        self.line(x, base, x + lean * 0.4, base - size * 0.5, 2.2, (150, 106, 66), rim=0.25)
        self.line(x + lean * 0.4, base - size * 0.5, top_x, top_y, 1.9, (150, 106, 66), rim=0.25)
        for dx, dy in ((-11, 3), (11, 3), (-8, -5), (8, -5), (-3, 7)):
            self.line(top_x, top_y, top_x + dx, top_y + dy, 2.3, (62, 156, 82), rim=0.2)
        self.ellipse(top_x, top_y + 1, 2.4, 2.4, (126, 84, 50))


def _meadow(back: _Land, front: _Land, layout: int) -> None:
    shift = (0, 30, 62, 90)[layout]
    front.hill(37, 5, 74, shift, (134, 190, 150))
    front.hill(42, 4, 58, shift * 1.7 + 20, (112, 190, 98))
    front.round_tree((78, 15, 86, 24)[layout], 46, (30, 28, 22, 32)[layout], (72, 158, 76))
    front.hill(46, 1.5, 96, shift, (136, 208, 92), 0.1)
    for i, colour in enumerate(((250, 240, 120), (255, 150, 170), (255, 255, 240), (255, 190, 90))):
        x = (9 + 25 * i + 11 * layout) % 94 + 1
        y = 51 + (i * 5 + layout * 3) % 10
        front.ellipse(x, y, 2.2, 2.0, colour, soft=1.5)


def _desert(back: _Land, front: _Land, layout: int) -> None:
    mesa = (74, 20, 56, 36)[layout]
    front.polygon(
        ((mesa - 12, 27), (mesa + 12, 27), (mesa + 18, 44), (mesa - 18, 44)), (214, 142, 102), rim=0.12
    )
    front.hill(41, 3.5, 84, (0, 40, 70, 20)[layout], (244, 178, 104))
    front.cactus((16, 80, 84, 12)[layout], 49, (19, 16, 21, 17)[layout])
    if layout in (1, 2):
        front.cactus((47, 0, 14, 0)[layout] or 30, 46, 11)
    front.hill(46, 2.2, 110, (60, 10, 30, 90)[layout], (255, 204, 116), 0.1)


def _forest(back: _Land, front: _Land, layout: int) -> None:
    front.hill(38, 2, 60, 17 * layout, (128, 178, 150))
    for i in range(7):
        x = -2 + 16.5 * i + (0, 6, 10, 3)[layout]
        front.conifer(x, 46, 25 + 6 * ((i + layout) % 2), (92, 152, 118))
    for x, size in (((8, 42), (86, 36)), ((18, 34), (90, 44)), ((4, 38), (30, 30)), ((70, 34), (92, 42)))[
        layout
    ]:
        front.conifer(x, 50, size, (46, 116, 76))
    front.hill(48, 1.2, 80, 13 * layout, (98, 158, 84), 0.1)
    for x in ((30, 66), (44, 76), (52, 88), (14, 46))[layout]:
        front.ellipse(x, 51, 5, 2.4, (70, 132, 66), soft=1.5)


def _snow(back: _Land, front: _Land, layout: int) -> None:
    shift = (0, 28, 55, 80)[layout]
    front.hill(35, 6, 66, shift, (186, 208, 234))
    front.hill(42, 4, 88, shift + 30, (212, 228, 246))
    trees = (((14, 24), (84, 30)), ((76, 26), (90, 20)), ((10, 30), (26, 20)), ((60, 20), (84, 28)))[layout]
    for x, size in trees:
        front.conifer(x, 48, size, (74, 132, 116), (244, 250, 255))
    front.hill(47, 2, 120, shift * 2, (238, 246, 255), 0.06)


def _beach(back: _Land, front: _Land, layout: int) -> None:
    def sea(u: Array, v: Array) -> Array:
        return 34 - v

    back.paint((0, 34, WIDTH, 60), sea, (54, 152, 206), light=-0.12)
    if layout in (1, 3):
        back.ellipse((0, 24, 0, 70)[layout], 34.5, 13, 5, (96, 148, 120), rim=0.1)
        back.paint((0, 34, WIDTH, 60), sea, (54, 152, 206), light=-0.12)
    front.hill(48, 1.0, 120, 25 * layout, (248, 222, 160), 0.08)
    x, lean = ((12, 6), (84, -7), (80, -5), (15, 4))[layout]
    front.palm(x, 53, 31, lean)
    front.ellipse((70, 30, 28, 66)[layout], 59, 3.2, 2.2, (255, 170, 150), rim=0.15)


def _city(back: _Land, front: _Land, layout: int) -> None:
    far: Colour = (150, 168, 198)
    for i in range(5):
        front.box(6 + 21 * i, 40, 7.5, 14 + 5 * ((i * 3 + layout) % 3), far, radius=0.8)
    wide = 10.0
    for i, x in enumerate((2, 27, 51, 75, 97)):
        tall = (20, 30, 16, 26, 22, 33)[(i + layout * 2) % 6]
        colour = ((206, 132, 112), (126, 146, 190), (222, 186, 138), (146, 176, 156))[(i + layout) % 4]
        x = x + (0, 5, -4, 2)[layout]
        front.box(x, 49 - tall / 2, wide, tall / 2 + 1, colour, radius=1.0, rim=0.12)
        for row in range(int((tall - 6) // 8) + 1):
            for dx in (-4.6, 4.6):
                front.window(x + dx, 55 - tall + 8 * row, lit=(3 * i + row + (dx > 0) + layout) % 3 != 0)
    front.box(48, 50.5, 60, 2.4, (196, 196, 204), radius=0.5)
    front.box(48, 60, 60, 7.8, (112, 114, 128), radius=0.5)
    for i in range(4):
        front.box(6 + 27 * i + 5 * layout, 60.5, 5.5, 1.2, (236, 226, 180), radius=1.0)


_PAINTERS = dict(zip(PLACES, (_meadow, _desert, _forest, _snow, _beach, _city), strict=True))


def _sky(place: Place) -> Array:
    sky = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    sky[:46] = _rows(_SKY[place.time], 0, 46)[:, None]
    sky[46:] = sky[45]
    sky *= np.asarray(_TINT[place.tint], np.float32)
    land = _Land()
    x = _SUN_X[place.sun]
    y = {NOON: 11.0, SUNSET: 25.0, NIGHT: 12.0}[place.time]
    glow = np.exp(-((land._u[0] - x) ** 2 + (land._v[0] - y) ** 2) / (2 * 13.0**2))[..., None]
    colour, strength = (((255, 246, 200), 0.5), ((255, 220, 130), 0.7), ((120, 140, 210), 0.45))[place.time]
    sky += strength * glow * (np.asarray(colour, np.float32) - sky)
    if place.time == NIGHT:
        for i in range(9):
            sx, sy = (11 + 37 * i + 13 * place.layout) % 92 + 2, (7 + 17 * i) % 28 + 2
            if abs(sx - x) > 11:
                land.ellipse(sx, sy, 1.3, 1.3, (236, 240, 255), alpha=0.8, soft=1.8)
        land.ellipse(x, y, 6.6, 6.6, (250, 246, 222), soft=1.5)
        land.ellipse(x + 2.2, y + 1.2, 1.7, 1.6, (222, 218, 204), soft=1.5)
        land.ellipse(x - 2.4, y - 1.8, 1.3, 1.3, (226, 222, 208), soft=1.5)
    else:
        disc = (255, 250, 214) if place.time == NOON else (255, 236, 170)
        radius = 6.8 if place.time == NOON else 8.2
        land.ellipse(x, y, radius, radius, disc, soft=1.6)
    over = land.rgba[0]
    return sky * (1 - over[..., 3:]) + over[..., :3]


def paint_scenery(place: Place) -> Scenery:
    """Render the still part of a place."""
    back, front = _Land(), _Land()
    _PAINTERS[PLACES[place.place]](back, front, place.layout)
    light = np.asarray(_LIGHT[place.time], np.float32) * np.asarray(_TINT[place.tint], np.float32)
    for land in (back, front):
        land.rgba[..., :3] *= light
    if place.time == NIGHT:
        front.light_windows()
    over = back.rgba[0]
    sky = _sky(place) * (1 - over[..., 3:]) + over[..., :3]
    return Scenery(sky, front.rgba[0], place)


def clouds(place: Place, times: Array, seed: int) -> tuple[Array, Array]:
    """Coverage [n, CLOUD_ROWS, w] and colour [3] of the clouds at frames `times` [n]."""
    period = 136
    strip = Canvas(CLOUD_ROWS, period, Frame.still())
    for i in range(2):
        x = 30 + 66 * i + (seed >> (4 * i)) % 12
        y = 7 + (seed >> (8 + 3 * i)) % 4
        for dx, dy, rx, ry in ((0, 0, 8, 4.6), (-8, 1.8, 6, 3.2), (8, 1.6, 7, 3.4)):
            strip.ellipse(x + dx, y + dy, rx, ry, (1, 1, 1), soft=1.8)
    alpha = strip.rgba[0, :, :, 3]
    speed = 0.1 + 0.05 * ((seed >> 16) % 3)
    at = (speed * times + (seed >> 20) % period) % period
    whole = np.floor(at).astype(int)
    part = (at - whole).astype(np.float32)[None, :, None]
    columns = (np.arange(WIDTH)[None, :] + whole[:, None]) % period
    cover = alpha[:, columns] * (1 - part) + alpha[:, (columns + 1) % period] * part
    colour, strength = _CLOUD[place.time]
    return np.moveaxis(cover, 0, 1) * strength, np.asarray(colour, np.float32)


def waves(times: Array) -> tuple[Array, Array]:
    """Brightness [n, rows, w] (added, 0..1) of the swell and coverage of the foam line at the shore."""
    rows = np.arange(WAVE_TOP, WAVE_BOTTOM, dtype=np.float32)[None, :, None] + 0.5
    columns = np.arange(WIDTH, dtype=np.float32)[None, None, :] + 0.5
    t = times.astype(np.float32)[:, None, None]
    depth = np.clip((rows - 35) / 6, 0, 1)
    swell = depth * np.sin(2 * np.pi * (columns / 32 + t / 64)) * np.sin(2 * np.pi * (rows / 9 + t / 96))
    shore = 47.0 + 1.2 * np.sin(2 * np.pi * t / 64) + 0.9 * np.sin(2 * np.pi * (columns / 40 - t / 96))
    foam = np.clip(1.3 - np.abs(rows - shore) / 1.6, 0, 1)
    return swell, foam


def flakes(times: Array, seed: int) -> tuple[Array, Array]:
    """Columns and rows [n, k] of the soft snow flakes."""
    k = np.arange(7)
    start = (k * 0.618 * HEIGHT + seed % HEIGHT) % HEIGHT
    y = (start[None] + 0.4 * times[:, None]) % (HEIGHT + 8) - 4
    x = 7 + 13.5 * k[None] + 2.0 * np.sin(2 * np.pi * times[:, None] / 64 + k[None])
    return x, y
