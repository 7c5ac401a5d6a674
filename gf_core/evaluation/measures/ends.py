"""Is the end of a film worse than its beginning? Its last 15 % against its first.

Start-end contrast of FramePack (Zhang and Agrawala 2025), which Helios-Bench reports too, over any measure of quality.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SHARE = 0.15
"""Share of a film that counts as its beginning, and as its end."""


def ends(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Means over the first and the last `SHARE` (at least one) of a measure per frame or second; NaN of nothing."""
    found = np.asarray(values, float)
    if not found.size:
        return float("nan"), float("nan")
    count = max(1, round(found.size * SHARE))
    return float(found[:count].mean()), float(found[-count:].mean())


def pooled_drift(shots: Sequence[np.ndarray]) -> float:
    """How far the shots' ends are from their beginnings, as a share of the beginnings: -0.2 has lost a fifth.

    Long shots weigh more. Ends are averaged before they are divided, so that a shot that begins with next to nothing
    decides no film. NaN where the beginnings are 0: there is nothing to compare with.
    """
    lengths = [len(shot) for shot in shots]
    if not sum(lengths):
        return float("nan")
    first, last = np.average([ends(shot) for shot in shots], axis=0, weights=lengths)
    return float(last / first - 1) if first else float("nan")
