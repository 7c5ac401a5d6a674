"""Where memory lies and where it stands in time: region sizes of one call and their positions (paper 4.2, Eq. 9, 10).

Regions are packed without gaps as anchors | recent | current, so that attention reads one slice. Positions follow
from the layout at the moment of reading; nothing about time is stored in a key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..config import MemorySpec
from ..errors import GroundedError


@dataclass(frozen=True)
class Layout:
    """How many latent frames each region holds."""

    anchors: int
    recent: int
    current: int = 0

    @property
    def past(self) -> int:
        """Frames before the current chunk."""
        return self.anchors + self.recent

    @property
    def total(self) -> int:
        """Frames that attention sees."""
        return self.past + self.current

    def spans(self, seen: int) -> tuple[tuple[str, int], ...]:
        """Name and frames of every region in a call that sees `seen` frames, the newest of them its own."""
        return ("anchors", self.anchors), ("recent", self.recent), ("current", seen - self.past)


def positions(spec: MemorySpec, layout: Layout, frames: Sequence[int]) -> tuple[int, ...]:
    """Time position of every frame in memory, in slot order; `frames` are their absolute numbers in the film."""
    if spec.positions == "absolute":
        found = tuple(frames)
    else:
        first_own = layout.anchors if spec.anchor_index == "zero" else 0
        found = tuple(0 if slot < first_own else slot for slot in range(layout.total))
    if spec.max_position is not None and found and max(found) > spec.max_position:
        raise GroundedError(
            f"time position {max(found)} is beyond {spec.max_position}, the largest that the model was trained on",
            fix="use relative positions with a smaller window, or lift max_position",
        )
    return found


def check(spec: MemorySpec) -> None:
    """Refuse settings that no film could run under."""
    if spec.chunk < 1 or spec.anchors < 0 or spec.recent < 0:
        raise GroundedError(
            f"memory of {spec.anchors} anchors, {spec.recent} recent frames and chunks of {spec.chunk} is impossible",
            fix="a chunk needs at least 1 frame; anchors and recent at least 0",
        )
    if spec.positions == "relative" and spec.max_position is not None and spec.window - 1 > spec.max_position:
        raise GroundedError(
            f"anchors, recent and chunk are {spec.window} frames together; models have learned {spec.max_position + 1}",
            fix=f"reduce anchors or recent frames by {spec.window - 1 - spec.max_position}",
        )
    if not 0 <= spec.alpha_max <= 1 or not 0 <= spec.ema_keep <= 1:
        raise GroundedError(
            f"alpha_max {spec.alpha_max} and ema_keep {spec.ema_keep} are shares",
            fix="give numbers from 0 to 1",
        )
