"""What can be measured of a film of any model: its ends, its chunk borders, its cuts. One pass, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import GroundedError
from ..timeline import BEGIN_SHOT, Timing
from ..video import probe, read_frames
from ..video.pixels import preview
from .measures.borders import border_ratio, chunk_borders
from .measures.cuts import detected_cuts, match_cuts
from .measures.drift import SIDE, frame_differences, sharpness, shots
from .measures.ends import pooled_drift
from .parts import Part

MEASURES = ("sharpness", "contrast", "saturation", "motion")
CUT_SECONDS = 0.25
"""A cut may be seen so far from where it is written."""
NO_CHUNKS = "the film does not say how long its chunks are"
CUT_ELSEWHERE = "the film was cut by another program"


def frame_values(frames: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """`MEASURES` of frames uint8 [H W 3], float [t] each.

    sharpness: variance of the Laplacian; contrast: standard deviation of grey; saturation: largest less smallest
    channel; motion: mean change from the frame before (0 for the first). All on a 0..1 scale.
    """
    rows: list[tuple[float, ...]] = []
    before: np.ndarray | None = None
    for frame in frames:
        small = preview(frame[None], SIDE)[0]
        grey = small.mean(-1, dtype=np.float32) / 255
        colourful = float((small.max(-1) - small.min(-1)).mean() / 255)
        moved = 0.0 if before is None else float(frame_differences(np.stack([before, small]))[0])
        rows.append((sharpness(grey[None]), float(grey.std()), colourful, moved))
        before = small
    return dict(zip(MEASURES, np.array(rows).reshape(-1, len(MEASURES)).T))


def measure_over_time(path: Path, parts: Sequence[Part], timing: Timing | None) -> dict[str, Any]:
    """Drift, borders and cuts of the film at `path`.

    Keys: `drift` (measure -> change from the first 15 % of a shot to its last, as a share), `borders` (change at chunk
    borders over change inside chunks), `cuts` (frames that are `seen`, `missed` and `extra`), and `left_out` (what was
    not measured -> why). parts: the film's segments; timing: how it was cut into chunks, where that is known.
    """
    values = frame_values(read_frames(path))
    total, starts = len(values["motion"]), [part.start for part in parts]
    spans = shots([part.verb for part in parts], starts, total)
    found: dict[str, Any] = {
        "drift": {
            # The first change of a shot is the cut.
            name: pooled_drift([row[a + (name == "motion") : b] for a, b in spans])
            for name, row in values.items()
        }
    }
    left_out = {}
    if timing is None or not _whole(starts, total, timing):
        left_out["borders"] = NO_CHUNKS if timing is None else CUT_ELSEWHERE
    else:
        borders = chunk_borders(starts, total, timing)
        found["borders"] = border_ratio(values["motion"][1:], borders, starts, timing.time_stride)
    try:
        written = [part.start for part in parts[1:] if part.verb in BEGIN_SHOT]
        within = round(CUT_SECONDS * float(probe(path).fps))
        found["cuts"] = match_cuts(written, detected_cuts(path), within)
    except GroundedError as error:
        left_out["cuts"] = f"{error.message}: {error.fix}"
    return found | {"left_out": left_out}


def _whole(starts: Sequence[int], total: int, timing: Timing) -> bool:
    """Whether all segments are whole chunks of that timing; the first one, which a picture or a video may lead, is
    taken as it is."""
    edges = [*starts[1:], total]
    return all((edge - edges[0]) % timing.chunk_pictures == 0 for edge in edges)
