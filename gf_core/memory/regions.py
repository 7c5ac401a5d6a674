"""Where memory lies and where it stands in time: regions of one call and the positions of their frames (paper 4.2).

Regions are packed without gaps as anchors | bank | recent | current, so that attention reads one slice. Positions
follow from the layout at the moment of reading; nothing about time is stored in a key. A scheme of positions is a row
of `SCHEMES`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from ..config import MemorySpec, ModelSpec
from ..errors import GroundedError
from .policies import POLICIES

SCALE_BYTES = 2
"""Of what a token's head shares where keys and values are packed."""


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
    last = (
        layout.past - first
        if spec.rolling is None
        else min(layout.past - first, spec.rolling - frames - first)
    )
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

    Raises:
        GroundedError: one is beyond what the model was trained on.
    """
    found = tuple(SCHEMES[spec.positions](spec, layout, frames))
    if spec.max_position is not None and found and max(found) > spec.max_position:
        raise GroundedError(
            f"time position {max(found)} is beyond {spec.max_position}, the largest that the model was trained on",
            fix="use relative positions with a smaller window, or lift max_position",
        )
    return found


def check(spec: MemorySpec) -> None:
    """Refuse settings that no film could run under.

    Raises:
        GroundedError: says which setting, and what to do.
    """
    if spec.chunk < 1 or min(spec.anchors, spec.recent, spec.bank) < 0:
        raise GroundedError(
            f"memory of {spec.anchors} anchors, {spec.recent} recent frames and chunks of {spec.chunk} is impossible",
            fix="a chunk needs at least 1 frame; anchors, bank and recent at least 0",
        )
    for name, table in (("positions", SCHEMES), ("anchor_policy", POLICIES)):
        if getattr(spec, name) not in table:
            raise GroundedError(
                f"there is no {name} called {getattr(spec, name)!r}", fix=f"choose from {', '.join(table)}"
            )
    seen = full_layout(spec).total if spec.walk else spec.window
    seen = seen if spec.rolling is None else min(seen, spec.rolling)
    if spec.positions != "absolute" and spec.max_position is not None and seen - 1 > spec.max_position:
        raise GroundedError(
            f"anchors, recent and chunk are {seen} frames together; models have learned {spec.max_position + 1}",
            fix=f"reduce anchors or recent frames by {seen - 1 - spec.max_position}",
        )
    if spec.rolling is not None and spec.rolling < spec.anchors + spec.bank + spec.chunk:
        raise GroundedError(
            f"calls of {spec.rolling} frames do not hold {spec.anchors} anchors and a chunk of {spec.chunk}",
            fix="let calls see more frames (rolling), or fewer anchors",
        )
    if spec.wave and spec.rolling is None:
        raise GroundedError(
            "a wave is one of chunks that are denoised together",
            fix="say how many frames a call sees (rolling), or leave wave away",
        )
    _check_walk(spec)
    if spec.cut_position is not None and spec.rolling is not None:
        raise GroundedError(
            "chunks that are denoised together cannot stand apart after a cut",
            fix="give cut_position or rolling, not both",
        )
    if spec.cut_blind and (spec.cut_position is not None or spec.rolling is not None):
        raise GroundedError(
            "steps that see no anchors after a cut (cut_blind) need recent memory to leave, and chunks made singly",
            fix="give cut_blind alone, without cut_position and rolling",
        )
    if spec.refresh and (
        spec.bank or spec.rolling or means_frames(spec) or spec.switch in ("apr", "recache")
    ):
        raise GroundedError(
            "a memory that is computed anew before every chunk keeps no bank, no mean and no recache",
            fix="use switch cross_only or flush, frozen anchors, and neither bank nor rolling",
        )
    if spec.heads and (spec.bank or spec.rolling or spec.sparse or spec.heads_runs < 1):
        raise GroundedError(
            "heads that see different frames share no bank, no window of several chunks and no sparse attention",
            fix="give a table of heads and heads_runs of at least 1, or bank, rolling or sparse",
        )
    if spec.heads and spec.stored != "full":
        raise GroundedError(
            "heads that see different frames are not served from packed keys and values",
            fix="use heads, or stored int8, not both",
        )
    _check_bank(spec)
    if not all(0 <= share <= 1 for share in (spec.alpha_max, spec.ema_keep, spec.sparse, *spec.bank_shares)):
        raise GroundedError(
            f"alpha_max {spec.alpha_max}, ema_keep {spec.ema_keep}, sparse {spec.sparse} and bank_shares "
            f"{spec.bank_shares} are shares",
            fix="give numbers from 0 to 1",
        )


def check_pictures(spec: MemorySpec) -> None:
    """Refuse a memory in which pictures of the cast have no place.

    Raises:
        GroundedError: says why, and what to do.
    """
    if not spec.capacity or POLICIES[spec.anchor_policy].averages or spec.walk:
        why = "averages its anchors" if spec.capacity else "keeps no anchors"
        why = "walks over its anchors" if spec.walk else why
        raise GroundedError(
            f"this memory {why}, so pictures of the cast have no place in it",
            fix="use another memory, such as grounded, or remove the pictures behind @cast",
        )


def _check_walk(spec: MemorySpec) -> None:
    if not spec.walk:
        return
    if not spec.capacity or spec.anchor_policy != "frozen" or spec.switch not in ("cross_only", "flush"):
        raise GroundedError(
            "a walk goes over the film's first frames, which stay as they are",
            fix="give anchors with anchor_policy frozen, and switch cross_only or flush",
        )
    if spec.bank or spec.heads or spec.rolling or spec.refresh or spec.cut_position is not None:
        raise GroundedError(
            "a memory that walks over its anchors is seen by all heads and chunks alike",
            fix="give walk without bank, heads, rolling, refresh and cut_position",
        )


def _check_bank(spec: MemorySpec) -> None:
    if not spec.bank:
        return
    if spec.averages and (
        spec.bank != 2 or POLICIES[spec.anchor_policy].averages or spec.positions == "absolute"
    ):
        raise GroundedError(
            f"a bank of means holds 2 frames that belong to no time, not {spec.bank} with positions {spec.positions!r}",
            fix="give bank=2, relative or top_aligned positions, and anchors that are no mean",
        )
    if spec.recache_before_evict or spec.bank_every < 1:
        raise GroundedError(
            f"a bank cannot be recomputed before eviction, nor compared every {spec.bank_every} chunks",
            fix="switch recache_before_evict off, and give bank_every of at least 1",
        )


def is_lean(spec: MemorySpec, turns_at_reading: bool) -> bool:
    """Whether keys are turned when they are read: where that is fast, and where a call reads what others just wrote."""
    # Heads pick from the turned copy of every layer.
    return (turns_at_reading or spec.wave) and not spec.heads


def means_frames(spec: MemorySpec) -> int:
    """Latent frames whose keys and values are running means, held in float32 beside their slots."""
    if spec.averages:
        return spec.bank
    return spec.capacity if POLICIES[spec.anchor_policy].averages else 0


@dataclass(frozen=True)
class Sizes:
    """Bytes of a memory of one shape: what estimates, snapshots and benchmarks count with."""

    spec: MemorySpec
    model: ModelSpec
    latent_height: int
    latent_width: int
    value_bytes: int
    """Bytes per number."""
    ahead: int = 0
    """Frames denoised together with a chunk that come after it."""
    lean: bool = False
    """Turned keys are those of one layer, as it is computed."""

    @property
    def keys(self) -> int:
        """The keys, or the values, of one latent frame in all layers."""
        tokens = self.model.tokens_per_frame(self.latent_height, self.latent_width)
        return self.model.num_layers * tokens * self.model.dim * self.value_bytes

    @property
    def stored(self) -> int:
        """The same as they lie in memory."""
        if self.spec.stored == "full":
            return self.keys
        width = self.model.head_dim
        return self.keys // (width * self.value_bytes) * (width + SCALE_BYTES)

    @property
    def latents(self) -> int:
        """One clean latent frame."""
        return self.model.in_dim * self.latent_height * self.latent_width * self.value_bytes

    @property
    def buffers(self) -> int:
        """All of the memory: raw keys, rotated keys and values of every slot, the latents behind them, the means."""
        spec = self.spec
        frames = spec.slots + self.ahead
        turned = self.keys // self.model.num_layers if self.lean else self.keys
        slots = frames * (2 * self.keys + turned)
        if spec.stored == "int8":  # keys and values, and those of one layer as they are computed
            slots = 2 * frames * (self.stored + self.keys // self.model.num_layers)
        return slots + (spec.capacity + spec.window) * self.latents + self.means

    @property
    def means(self) -> int:
        """Running means of keys and values, in float32."""
        return 2 * means_frames(self.spec) * self.keys * 4 // self.value_bytes

    def state(self, frames: int | None = None) -> int:
        """A snapshot with `frames` latent frames in memory: all but the rotated keys. None is a full memory."""
        frames = self.spec.slots if frames is None else frames
        keys = 0 if self.spec.refresh else 2 * frames * self.stored  # it is computed anew
        return keys + (frames + min(self.spec.capacity, frames)) * self.latents + self.means
