"""Where memory lies and where it stands in time: regions of one call and the positions of their frames (paper 4.2).

Regions are packed without gaps as anchors | bank | recent | current, so that attention reads one slice. Positions
follow from the layout at the moment of reading; nothing about time is stored in a key. A scheme of positions is a row
of `SCHEMES`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from ..config import MemorySpec
from ..errors import GroundedError


@dataclass(frozen=True)
class Layout:
    """How many latent frames each region holds."""

    anchors: int
    recent: int
    current: int = 0
    bank: int = 0

    @property
    def kept(self) -> int:
        """Frames before the recent ones."""
        return self.anchors + self.bank

    @property
    def past(self) -> int:
        """Frames before the current chunk."""
        return self.kept + self.recent

    @property
    def total(self) -> int:
        """Frames that attention sees."""
        return self.past + self.current

    def regions(self) -> tuple[tuple[str, int], ...]:
        """Name and frames of each region, in slot order; a bank only where there is one."""
        bank = (("bank", self.bank),) if self.bank else ()
        return ("anchors", self.anchors), *bank, ("recent", self.recent), ("current", self.current)

    def only(self, slots: Collection[int], current: int) -> Layout:
        """The part of it in the given slots, with a current chunk."""
        anchors = sum(slot < self.anchors for slot in slots)
        recent = sum(slot >= self.kept for slot in slots)
        return Layout(anchors, recent, current, len(slots) - anchors - recent)


Sees = Callable[[MemorySpec, Layout, int], list[range]]
"""(spec, layout of the past, frames of a call) -> the slots of the past that it sees, at most `reach` with its own."""


def newest(spec: MemorySpec, layout: Layout, frames: int) -> list[range]:
    """The newest frames."""
    reach = spec.recent if spec.walk else layout.past
    if spec.rolling is not None:
        reach = max(0, spec.rolling - frames)
    return [range(max(0, layout.past - reach), layout.past)]


def alone(spec: MemorySpec, layout: Layout, frames: int) -> list[range]:
    """Nothing of the past."""
    return []


def ends(spec: MemorySpec, layout: Layout, frames: int) -> list[range]:
    """The first frames, anchors already or to become some, and beside them the newest ones (Rolling Forcing)."""
    first = max(layout.kept, min(spec.capacity, layout.past))
    last = layout.past - first
    if spec.rolling is not None:
        last = min(last, spec.rolling - frames - first)
    return [range(first), range(layout.past - max(0, last), layout.past)]


def of_head(layout: Layout, first: int, last: int) -> list[range]:
    """The first frames of the past, anchors already or to become some, and the newest of the others."""
    first = min(first, layout.past)
    return [range(first), range(max(first, layout.past - last), layout.past)]


def full_layout(spec: MemorySpec) -> Layout:
    """What a chunk sees of a memory that is full."""
    recent = spec.recent
    if spec.rolling is not None:
        recent = min(recent, spec.rolling - spec.capacity - spec.bank - spec.chunk)
    return Layout(0 if spec.walk else spec.capacity, recent, spec.chunk, spec.bank)


Scheme = Callable[[MemorySpec, Layout, Sequence[int]], Sequence[int]]
"""Time position of every frame in slot order, from the frames' absolute numbers in the film."""


def _anchor_places(spec: MemorySpec, layout: Layout) -> list[int]:
    # Eq. 9: all at time 0; else each at its slot.
    return [0] * layout.anchors if spec.anchor_index == "zero" else list(range(layout.anchors))


def _relative(spec: MemorySpec, layout: Layout, frames: Sequence[int]) -> Sequence[int]:
    """Inside the window: the same at minute ten as at second one (DR-RoPE, Eq. 9, 10)."""
    return [*_anchor_places(spec, layout), *range(layout.anchors, layout.total)]


def _absolute(spec: MemorySpec, layout: Layout, frames: Sequence[int]) -> Sequence[int]:
    """The frames' own numbers, which grow for ever (LongLive, Self Forcing)."""
    return frames


def _top_aligned(spec: MemorySpec, layout: Layout, frames: Sequence[int]) -> Sequence[int]:
    """Anchors at the bottom of the trained range, all others at its top, the gap between them kept (SGF).

    Until the film leaves the trained range these are the frames' own numbers.
    """
    own = layout.total - layout.anchors
    newest = frames[-1] if frames else 0
    top = newest if spec.max_position is None else min(newest, spec.max_position)
    return [*_anchor_places(spec, layout), *range(top - own + 1, top + 1)]


SCHEMES: dict[str, Scheme] = {"relative": _relative, "absolute": _absolute, "top_aligned": _top_aligned}


def positions(spec: MemorySpec, layout: Layout, frames: Sequence[int]) -> tuple[int, ...]:
    """Time position of every frame in memory, in slot order; `frames` are their absolute numbers in the film.

    Raises GroundedError: one is beyond what the model was trained on.
    """
    found = tuple(SCHEMES[spec.positions](spec, layout, frames))
    if spec.max_position is not None and found and max(found) > spec.max_position:
        raise GroundedError(
            f"time position {max(found)} is beyond {spec.max_position}, the largest that the model was trained on",
            fix="use relative positions with a smaller window, or lift max_position",
        )
    return found
