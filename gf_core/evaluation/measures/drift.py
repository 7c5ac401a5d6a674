"""Does the picture itself hold up? Flicker, colour drift and the loudness of switches; works on any film,
numpy only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...timeline import BEGIN_SHOT

SIDE = 416
"""Longest side of the pictures that are measured, where they are large."""
_BINS = 32
MARGIN = 6
"""Pixels around a character that are not background either."""


def seconds_of(start: int, stop: int, fps: float) -> list[tuple[int, int]]:
    """[start, stop) cut into seconds; a rest shorter than half a second joins the one before."""
    second = max(round(fps), 1)
    edges = list(range(start, stop, second))
    if len(edges) > 1 and stop - edges[-1] < second / 2:
        edges.pop()
    return list(zip(edges, [*edges[1:], stop]))


def frame_differences(frames: np.ndarray, boxes: np.ndarray | None = None) -> np.ndarray:
    """Mean |f_t - f_(t-1)| on a 0..1 scale, float [t-1]; with boxes [t 4] (cx, cy, w, h) on the background
    only.

    Background is what lies outside the box of either frame, widened by `MARGIN` pixels.
    """
    result = np.zeros(max(len(frames) - 1, 0), np.float32)
    rows, columns = np.mgrid[: frames.shape[1], : frames.shape[2]] + 0.5
    inside_before = None
    for t in range(len(frames)):
        inside = np.zeros(frames.shape[1:3], bool)
        if boxes is not None:
            cx, cy, w, h = boxes[t]
            inside = (abs(columns - cx) < w / 2 + MARGIN) & (abs(rows - cy) < h / 2 + MARGIN)
        if t:
            background = ~(inside | inside_before)
            if background.any():
                change = np.abs(frames[t].astype(np.int16) - frames[t - 1].astype(np.int16)).mean(-1)
                result[t - 1] = change[background].mean() / 255
        inside_before = inside
    return result


def sharpness(grey: np.ndarray) -> float:
    """Fine detail of grey pictures [t h w]: variance of the Laplacian; 0 where they are too small for one."""
    inner = grey[:, 1:-1, 1:-1]
    detail = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:] - 4 * inner
    return float(detail.var()) if detail.size else 0.0


def flicker(differences: np.ndarray, start: int, stop: int) -> float:
    """Mean background change between neighbouring frames of the shot [start, stop); 0 is perfectly still."""
    part = differences[start : stop - 1]
    return float(part.mean()) if part.size else 0.0


def histogram(frames: np.ndarray) -> np.ndarray:
    """Cumulative histogram per channel, float [3 32]."""
    result = []
    for channel in range(3):
        counts = np.bincount(
            (frames[..., channel].reshape(-1) // (256 // _BINS)).astype(np.int64), minlength=_BINS
        )
        result.append(np.cumsum(counts) / counts.sum())
    return np.stack(result)


def histogram_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Earth mover's distance of two cumulative histograms on a 0..1 scale, mean over channels."""
    return float(np.abs(a - b).mean())


def colour_drift(frames: np.ndarray, start: int, stop: int, fps: float) -> list[float]:
    """Per second of the shot [start, stop): distance of its colours to those of the shot's first second."""
    parts = [histogram(frames[a:b]) for a, b in seconds_of(start, stop, fps)]
    return [histogram_distance(parts[0], part) for part in parts]


def loudness(
    frames: np.ndarray, boundaries: Sequence[int], differences: np.ndarray | None = None
) -> list[float]:
    """Per boundary (first frame of a segment): change at the boundary over the median change of the film.

    About 1 is a switch that nobody sees; a hard cut is 10 and more.
    """
    values = frame_differences(frames) if differences is None else differences
    if values.size == 0:
        return []
    usual = max(float(np.median(values)), 1e-4)
    return [float(values[b - 1]) / usual for b in boundaries]


def shots(verbs: Sequence[str], starts: Sequence[int], total: int) -> list[tuple[int, int]]:
    """Runs of segments without a cut: [(first frame, past the last)], `then` stays in its shot."""
    edges = [start for i, (verb, start) in enumerate(zip(verbs, starts)) if i == 0 or verb in BEGIN_SHOT]
    return list(zip(edges, [*edges[1:], total]))
