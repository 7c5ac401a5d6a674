"""Soft vector drawing on a stack of small pictures: signed distances, one pixel of antialiasing.

One canvas holds `p` poses of one sprite at once, so that every numpy call works on all poses. Shapes are
given in the local coordinates of the sprite (pixels, origin on the ground, v downwards); each shape touches
only the pixels around it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

Array = np.ndarray
Colour = tuple[float, float, float]
Number = float | np.ndarray


@dataclass(frozen=True)
class Frame:
    """Placement of the local coordinates on the canvas; every array is float32 [p, 1, 1]."""

    x: Array
    "Canvas column of the local origin, pixels."
    y: Array
    "Canvas row of the local origin, pixels."
    angle: Array
    "Clockwise rotation about the origin, radians."
    sx: Array
    "Horizontal scale; negative mirrors."
    sy: Array
    "Vertical scale."

    @staticmethod
    def still() -> Frame:
        """One upright pose, at the canvas' corner."""
        one = np.ones((1, 1, 1), np.float32)
        return Frame(one * 0, one * 0, one * 0, one, one)


class Canvas:
    """Premultiplied colour and coverage: `rgba` float32 [p, h, w, 4], colours 0..255, coverage 0..1."""

    def __init__(self, height: int, width: int, frame: Frame) -> None:
        self.frame = frame
        self.rgba = np.zeros((frame.x.shape[0], height, width, 4), np.float32)
        ys = np.arange(height, dtype=np.float32)[None, :, None] + 0.5 - frame.y
        xs = np.arange(width, dtype=np.float32)[None, None, :] + 0.5 - frame.x
        cos, sin = np.cos(frame.angle), np.sin(frame.angle)
        self._u = (xs * cos + ys * sin) / frame.sx
        self._v = (ys * cos - xs * sin) / frame.sy
        self._cos, self._sin = cos, sin
        self._angled = bool(np.any(frame.angle))

    def _window(self, u0: Number, v0: Number, u1: Number, v1: Number) -> tuple[slice, slice, slice]:
        f = self.frame
        left_u, right_u, top_v, bottom_v = u0 * f.sx, u1 * f.sx, v0 * f.sy, v1 * f.sy
        if self._angled:
            us = np.stack(np.broadcast_arrays(left_u, left_u, right_u, right_u))
            vs = np.stack(np.broadcast_arrays(top_v, bottom_v, top_v, bottom_v))
            px = f.x + us * self._cos - vs * self._sin
            py = f.y + us * self._sin + vs * self._cos
        else:
            px = np.stack((f.x + left_u, f.x + right_u))
            py = np.stack((f.y + top_v, f.y + bottom_v))
        height, width = self.rgba.shape[1:3]
        top, bottom = max(int(py.min()) - 1, 0), min(int(py.max()) + 2, height)
        left, right = max(int(px.min()) - 1, 0), min(int(px.max()) + 2, width)
        return slice(None), slice(top, max(bottom, top)), slice(left, max(right, left))

    def paint(
        self,
        box: tuple[Number, Number, Number, Number],
        distance: Callable[[Array, Array], Array],
        colour: Colour,
        rim: float = 0.0,
        light: float = 0.0,
        alpha: Number = 1.0,
        soft: float = 1.0,
    ) -> None:
        """Fill a shape. `distance(u, v)` is negative inside; `rim` darkens the last 2.5 px towards the edge,
        `light` brightens the upper part, `soft` is the width of the edge in pixels."""
        window = self._window(*box)
        u, v = self._u[window], self._v[window]
        if u.size == 0:
            return
        d = distance(u, v)
        cover = np.clip(0.5 - d / soft, 0.0, 1.0) * alpha
        target = self.rgba[window]
        target *= (1.0 - cover)[..., None]
        target[..., 3] += cover
        if rim or light:
            shade = 1.0 - rim * np.clip(1.0 + d / 2.5, 0.0, 1.0)
            if light:
                middle, half = (box[1] + box[3]) / 2, (box[3] - box[1]) / 2
                shade += light * (middle - v) / half
            cover = cover * shade
        target[..., :3] += cover[..., None] * np.asarray(colour, np.float32)

    def ellipse(
        self,
        cx: Number,
        cy: Number,
        rx: Number,
        ry: Number,
        colour: Colour,
        *,
        soft: float = 1.0,
        **look: Any,
    ) -> None:
        """An upright ellipse around (cx, cy); `look` as `paint` takes it, here and below."""

        def distance(u: Array, v: Array) -> Array:
            r = np.sqrt(((u - cx) / rx) ** 2 + ((v - cy) / ry) ** 2)
            return (r - 1.0) * np.minimum(rx, ry)

        box = (cx - rx - soft, cy - ry - soft, cx + rx + soft, cy + ry + soft)
        self.paint(box, distance, colour, soft=soft, **look)

    def box(
        self,
        cx: Number,
        cy: Number,
        hx: float,
        hy: float,
        colour: Colour,
        radius: float = 1.0,
        **look: Any,
    ) -> None:
        """A rounded box with half sizes hx, hy."""

        def distance(u: Array, v: Array) -> Array:
            qx = np.abs(u - cx) - (hx - radius)
            qy = np.abs(v - cy) - (hy - radius)
            outside = np.sqrt(np.maximum(qx, 0) ** 2 + np.maximum(qy, 0) ** 2)
            return outside + np.minimum(np.maximum(qx, qy), 0) - radius

        self.paint((cx - hx, cy - hy, cx + hx, cy + hy), distance, colour, **look)

    def polygon(
        self, points: tuple[tuple[Number, Number], ...], colour: Colour, *, grow: float = 0.0, **look: Any
    ) -> None:
        """A convex polygon, corners clockwise on the screen, grown by `grow` pixels with sharp corners."""
        us, vs = zip(*points)

        def distance(u: Array, v: Array) -> Array:
            best = np.full_like(u, -np.inf)
            for i, (ax, ay) in enumerate(points):
                bx, by = points[(i + 1) % len(points)]
                ex, ey = bx - ax, by - ay
                length = np.sqrt(ex * ex + ey * ey)
                d = ((u - ax) * ey - (v - ay) * ex) / length
                best = np.maximum(best, d)
            return best - grow

        lo = (reduce(np.minimum, us) - grow, reduce(np.minimum, vs) - grow)
        hi = (reduce(np.maximum, us) + grow, reduce(np.maximum, vs) + grow)
        self.paint((*lo, *hi), distance, colour, **look)

    def line(
        self,
        ax: Number,
        ay: Number,
        bx: Number,
        by: Number,
        radius: float,
        colour: Colour,
        **look: Any,
    ) -> None:
        """A thick line with round ends."""

        def distance(u: Array, v: Array) -> Array:
            ex, ey = bx - ax, by - ay
            along = np.clip(((u - ax) * ex + (v - ay) * ey) / (ex * ex + ey * ey + 1e-6), 0.0, 1.0)
            return np.sqrt((u - ax - along * ex) ** 2 + (v - ay - along * ey) ** 2) - radius

        lo = (np.minimum(ax, bx) - radius, np.minimum(ay, by) - radius)
        hi = (np.maximum(ax, bx) + radius, np.maximum(ay, by) + radius)
        self.paint((*lo, *hi), distance, colour, **look)
