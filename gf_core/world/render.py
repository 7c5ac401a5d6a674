"""Rendering of a script: frames, subject mask and box, a pure function of the script and the frame index."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..timeline import BEGIN_SHOT
from .canvas import Array, Canvas, Frame
from .characters import Painter
from .motion import PERIODS, poses
from .scenery import (
    CHARACTER_LIGHT,
    CLOUD_ROWS,
    GROUND,
    HEIGHT,
    WAVE_BOTTOM,
    WAVE_TOP,
    WIDTH,
    Scenery,
    clouds,
    flakes,
    paint_scenery,
    waves,
)
from .script import Place, Script, Segment, walked
from .vocabulary import NOON, PLACES, SLEEP

SPRITE = 60
_CENTRE = SPRITE // 2


@dataclass(frozen=True)
class Rendered:
    """A clip with its ground truth."""

    frames: Array
    "uint8 [t, 64, 96, 3]."
    mask: Array
    "uint8 [t, 64, 96], 1 on the character."
    boxes: Array
    "int16 [t, 4], x0, y0, x1, y1 of the character, ends excluded."
    segment_of: Array
    "int64 [t], index of the segment shown."


def _blend(under: Array, cover: Array, colour: Array) -> Array:
    return under + cover[..., None] * (colour - under)


def _surroundings(scenery: Scenery, times: Array, seed: int) -> Array:
    """Frames [n, h, w, 3] uint8 without the character."""
    front, cover = scenery.front[..., :3], 1 - scenery.front[..., 3:]
    still = scenery.back * cover + front
    frames = np.empty((len(times), HEIGHT, WIDTH, 3), np.uint8)
    frames[:] = np.clip(still + 0.5, 0, 255).astype(np.uint8)
    alpha, colour = clouds(scenery.place, times, seed)
    rows = slice(0, CLOUD_ROWS)
    band = _blend(scenery.back[rows], alpha, colour) * cover[rows] + front[rows]
    frames[:, rows] = np.clip(band + 0.5, 0, 255)
    if PLACES[scenery.place.place] == "beach":
        rows = slice(WAVE_TOP, WAVE_BOTTOM)
        swell, foam = waves(times)
        bright = scenery.back[rows].mean()
        band = scenery.back[rows] * (1 + 0.13 * swell[..., None])
        shown = front[rows] + band * cover[rows]
        white = np.asarray((255.0, 255.0, 255.0), np.float32) * min(1.0, 0.35 + bright / 200)
        # The palm hides the foam; the sand does not, so foam fades only where the front is dark.
        shown = _blend(shown, foam * 0.8 * _sand(scenery)[rows], white)
        frames[:, rows] = np.clip(shown + 0.5, 0, 255)
    return frames


def _sand(scenery: Scenery) -> Array:
    """1 where the front is absent or as bright as the sand, 0 on the palm; [h, w]."""
    rgb, cover = scenery.front[..., :3].mean(-1), scenery.front[..., 3]
    sand = np.median(rgb[60:, :])
    bright = np.clip((rgb / np.maximum(cover, 0.05) - 0.72 * sand) / (0.16 * sand), 0, 1)
    return np.where(cover > 0.05, bright, 1.0)


def _snow_fall(frames: Array, times: Array, seed: int, light: Array) -> None:
    x, y = flakes(times, seed)
    reach = np.arange(-3, 4)
    cx, cy = np.floor(x).astype(int), np.floor(y).astype(int)
    px = cx[:, :, None, None] + reach[None, None, None, :]
    py = cy[:, :, None, None] + reach[None, None, :, None]
    px, py = np.broadcast_arrays(px, py)
    far = np.hypot(px + 0.5 - x[..., None, None], py + 0.5 - y[..., None, None])
    alpha = np.clip((2.6 - far) / 1.6, 0, 1) * 0.85
    alpha = np.where((px >= 0) & (px < WIDTH) & (py >= 0) & (py < HEIGHT), alpha, 0.0)
    px, py = np.clip(px, 0, WIDTH - 1), np.clip(py, 0, HEIGHT - 1)
    at = np.broadcast_to(np.arange(len(times))[:, None, None, None], px.shape)
    inside = alpha > 0.02
    at, px, py, alpha = at[inside], px[inside], py[inside], alpha[inside]
    old = frames[at, py, px].astype(np.float32)
    frames[at, py, px] = np.clip(old + alpha[:, None] * (255 * light - old) + 0.5, 0, 255)


def _sprites(segment: Segment, phase: Array, part: Array) -> tuple[Array, Array]:
    """Premultiplied sprites [p, h, SPRITE, 4] with shadow; coverage of the character alone [p, h, SPRITE]."""
    pose = poses(segment.action, phase)
    x = (_CENTRE + part).astype(np.float32)[:, None, None]
    ground = np.full_like(x, GROUND)
    canvas = Canvas(HEIGHT, SPRITE, Frame(x, ground - pose.hop, pose.angle, pose.sx, pose.sy))
    Painter(canvas, segment.character, pose).draw()
    alpha = canvas.rgba[..., 3].copy()
    if segment.place.time != NOON:
        canvas.rgba[..., :3] *= np.asarray(CHARACTER_LIGHT[segment.place.time], np.float32)
    one = np.ones_like(x)
    floor = Canvas(HEIGHT, SPRITE, Frame(x, ground, one * 0, one, one))
    size = 1 - 0.03 * pose.hop
    floor.ellipse(0.0, 0.5, 15.0 * size, 3.4 * size, (0, 0, 0), alpha=0.34, soft=3.0)
    if segment.action == SLEEP:
        _letter(floor, pose.breath)
    canvas.rgba += floor.rgba * (1 - canvas.rgba[..., 3:])
    return canvas.rgba, alpha


def _letter(canvas: Canvas, breath: Array) -> None:
    """The big z above a sleeper."""
    u, v = 17.0, -31.0 - 2.0 * breath
    colour = (255, 255, 255)
    alpha = 0.25 + 0.75 * breath
    for dark, width in (((60, 64, 110), 2.2), (colour, 1.3)):
        canvas.line(u - 4, v - 4, u + 4, v - 4, width, dark, alpha=alpha)
        canvas.line(u + 4, v - 4, u - 4, v + 4, width, dark, alpha=alpha)
        canvas.line(u - 4, v + 4, u + 4, v + 4, width, dark, alpha=alpha)


def _draw_character(segment: Segment, frames: Array, mask: Array, boxes: Array) -> None:
    k = np.arange(segment.frames)
    x = walked(segment.x, segment.action, k.astype(np.float64))
    whole = np.floor(x).astype(int)
    halves = np.rint((x - whole) * 2).astype(int)
    key = (k % PERIODS[segment.action]) * 2 + halves
    unique, which = np.unique(key, return_inverse=True)
    sprites, alpha = _sprites(segment, unique // 2, (unique % 2) / 2)
    solid = alpha > 0.5
    used = np.flatnonzero(sprites[..., 3].max(axis=(0, 2)) > 0.004)
    top, bottom = int(used[0]), int(used[-1]) + 1
    for i in range(segment.frames):
        left = int(whole[i]) - _CENTRE
        lo, hi = max(left, 0), min(left + SPRITE, WIDTH)
        sprite = sprites[which[i], top:bottom, lo - left : hi - left]
        target = frames[i, top:bottom, lo:hi]
        shown = target * (1 - sprite[..., 3:]) + sprite[..., :3]
        np.minimum(shown + 0.5, 255, out=shown)
        target[:] = shown.astype(np.uint8)
        seen = solid[which[i], :, lo - left : hi - left]
        mask[i, :, lo:hi] = seen
        ys, xs = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
        boxes[i] = lo + xs[0], ys[0], lo + xs[-1] + 1, ys[-1] + 1


def render(script: Script) -> Rendered:
    """Render every frame of a script."""
    total = script.frames
    frames = np.empty((total, HEIGHT, WIDTH, 3), np.uint8)
    mask = np.zeros((total, HEIGHT, WIDTH), np.uint8)
    boxes = np.zeros((total, 4), np.int16)
    segment_of = np.zeros(total, np.int64)
    painted: dict[Place, Scenery] = {}
    for number, segment in enumerate(script.segments):
        span = slice(segment.first_frame, segment.first_frame + segment.frames)
        segment_of[span] = number
        place = segment.place
        if place not in painted:
            painted[place] = paint_scenery(place)
        # The clock of the surroundings runs through a `then`, since it is the same shot.
        times = np.arange(span.start, span.stop, dtype=np.float64)
        shot = sum(s.verb in BEGIN_SHOT for s in script.segments[: number + 1])
        seed = (script.seed + 7919 * shot) & 0xFFFFFFFF
        frames[span] = _surroundings(painted[place], times, seed)
        _draw_character(segment, frames[span], mask[span], boxes[span])
        if PLACES[place.place] == "snow":
            _snow_fall(frames[span], times, seed, np.asarray(CHARACTER_LIGHT[place.time], np.float32))
    return Rendered(frames, mask, boxes, segment_of)
