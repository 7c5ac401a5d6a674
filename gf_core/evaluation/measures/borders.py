"""Can it be seen where one chunk ends and the next one begins? Change at chunk borders against change inside chunks.

The measure of discontinuity of Forcing-KV (2605.09681), which takes optical flow; here it is the change of the picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ...timeline import Timing


def chunk_borders(starts: Sequence[int], total: int, timing: Timing) -> list[int]:
    """First frames of all chunks that begin inside a segment.

    Chunks are counted from a segment's end, as the film's first one has another length.
    starts: first frames of the segments; total: frames of the film.
    """
    pictures, first = timing.chunk_pictures, timing.pictures(1)
    return [
        border
        for start, stop in zip(starts, [*starts[1:], total])
        for border in reversed(range(stop - pictures, start, -pictures))
        if border >= first
    ]


def border_ratio(
    changes: np.ndarray, borders: Iterable[int], left_out: Iterable[int] = (), stride: int = 1
) -> float:
    """Mean change at `borders` over the mean change inside chunks: 1 is a border that nobody sees; NaN without both.

    changes: float [t-1], change from frame t to t+1 (`drift.frame_differences`); left_out: first frames of segments,
    where a change is meant; stride: frames of a latent frame. Inside chunks only steps from one latent frame to the
    next are counted, as those at borders are such steps too, and a decoder moves more in them.
    """
    at = {border - 1 for border in borders if 0 < border <= len(changes)}
    if not at:
        return float("nan")
    phases = {step % stride for step in at}
    skipped = at | {start - 1 for start in left_out}
    inside = [n for n in range(len(changes)) if n % stride in phases and n not in skipped]
    usual = float(changes[inside].mean()) if inside else 0.0
    return float(changes[sorted(at)].mean()) / usual if usual else float("nan")
