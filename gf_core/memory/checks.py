"""Settings of a memory that no film could run under, or that do not go together: each refused in words."""

from __future__ import annotations

from collections.abc import Iterator

from ..config import MemorySpec, ModelSpec
from ..errors import GroundedError
from ..words import counted
from .policies import POLICIES
from .regions import SCHEMES, full_layout
from .sizes import means_frames

Faults = Iterator[tuple[str, str]]
"""What is wrong, and what to do."""


def check(spec: MemorySpec, batch: int = 1) -> None:
    """Refuse settings that no film could run under, or no `batch` films in step. Raises GroundedError."""
    for faults in (_numbers, _window, _walk, _others, _bank):
        for message, fix in faults(spec):
            raise GroundedError(message, fix)
    if batch == 1:
        return
    if spec.positions == "absolute" and POLICIES[spec.anchor_policy].accepts is not None:
        raise GroundedError(
            "absolute positions cannot serve several samples that choose their own anchors",
            fix="use batch 1, relative positions, or frozen anchors",
        )
    if spec.bank and not spec.averages:
        raise GroundedError(
            "several samples cannot share a bank that each fills by its own changes",
            fix="use batch 1 (in training, films made one at a time: --each 1)",
        )


def check_gradients(spec: MemorySpec) -> None:
    """Refuse settings that no gradient goes through. Raises GroundedError."""
    if spec.heads or spec.wave or spec.stored == "int8":
        raise GroundedError(
            "gradients do not go through this memory",
            fix="train without heads, wave and int8, and use them when sampling",
        )


def _numbers(spec: MemorySpec) -> Faults:
    if spec.chunk < 1 or min(spec.anchors, spec.recent, spec.bank) < 0:
        yield (
            f"memory of {counted(spec.anchors, 'anchor')}, {counted(spec.recent, 'recent frame')} and "
            f"chunks of {spec.chunk} is impossible",
            "a chunk needs at least 1 frame; anchors, bank and recent at least 0",
        )
    for name, table in (("positions", SCHEMES), ("anchor_policy", POLICIES)):
        if getattr(spec, name) not in table:
            yield f"there is no {name} called {getattr(spec, name)!r}", f"choose from {', '.join(table)}"
    if not all(0 <= share <= 1 for share in (spec.alpha_max, spec.ema_keep, spec.sparse, *spec.bank_shares)):
        yield (
            f"alpha_max {spec.alpha_max}, ema_keep {spec.ema_keep}, sparse {spec.sparse} and bank_shares "
            f"{spec.bank_shares} are shares",
            "give numbers from 0 to 1",
        )


def _window(spec: MemorySpec) -> Faults:
    """What one call sees."""
    seen = full_layout(spec).total if spec.walk else spec.window
    seen = seen if spec.rolling is None else min(seen, spec.rolling)
    if spec.positions != "absolute" and spec.max_position is not None and seen - 1 > spec.max_position:
        yield (
            f"anchors, recent and chunk are {seen} frames together; models have learned {spec.max_position + 1}",
            f"reduce anchors or recent frames by {seen - 1 - spec.max_position}",
        )
    if spec.rolling is not None and spec.rolling < spec.anchors + spec.bank + spec.chunk:
        yield (
            f"calls of {counted(spec.rolling, 'frame')} do not hold "
            f"{counted(spec.anchors, 'anchor')} and a chunk of {spec.chunk}",
            "let calls see more frames (rolling), or fewer anchors",
        )
    if spec.wave and spec.rolling is None:
        yield (
            "a wave is one of chunks that are denoised together",
            "say how many frames a call sees (rolling), or leave wave away",
        )


def _walk(spec: MemorySpec) -> Faults:
    if not spec.walk:
        return
    if not spec.capacity or spec.anchor_policy != "frozen" or spec.switch not in ("cross_only", "flush"):
        yield (
            "a walk goes over the film's first frames, which stay as they are",
            "give anchors with anchor_policy frozen, and switch cross_only or flush",
        )
    if spec.bank or spec.heads or spec.rolling or spec.refresh or spec.cut_position is not None:
        yield (
            "a memory that walks over its anchors is seen by all heads and chunks alike",
            "give walk without bank, heads, rolling, refresh and cut_position",
        )


def _others(spec: MemorySpec) -> Faults:
    """What else does not go together."""
    apart, rolling = spec.cut_position is not None, spec.rolling is not None
    if apart and rolling:
        yield (
            "chunks that are denoised together cannot stand apart after a cut",
            "give cut_position or rolling, not both",
        )
    if spec.cut_blind and (apart or rolling):
        yield (
            "steps that see no anchors after a cut (cut_blind) need recent memory to leave, and chunks made singly",
            "give cut_blind alone, without cut_position and rolling",
        )
    kept = spec.bank or rolling or means_frames(spec) or spec.switch in ("apr", "recache")
    if spec.refresh and kept:
        yield (
            "a memory that is computed anew before every chunk keeps no bank, no mean and no recache",
            "use switch cross_only or flush, frozen anchors, and neither bank nor rolling",
        )
    if spec.heads and (spec.bank or spec.rolling or spec.sparse or spec.heads_runs < 1):
        yield (
            "heads that see different frames share no bank, no window of several chunks and no sparse attention",
            "give a table of heads and heads_runs of at least 1, or bank, rolling or sparse",
        )
    if spec.heads and spec.stored != "full":
        yield (
            "heads that see different frames are not served from packed keys and values",
            "use heads, or stored int8, not both",
        )


def _bank(spec: MemorySpec) -> Faults:
    if not spec.bank:
        return
    timed = POLICIES[spec.anchor_policy].averages or spec.positions == "absolute"
    if spec.averages and (spec.bank != 2 or timed):
        yield (
            f"a bank of means holds 2 frames that belong to no time, not {spec.bank} with positions {spec.positions!r}",
            "give bank=2, relative or top_aligned positions, and anchors that are no mean",
        )
    if spec.recache_before_evict or spec.bank_every < 1:
        yield (
            f"a bank cannot be recomputed before eviction, nor compared every {spec.bank_every} chunks",
            "switch recache_before_evict off, and give bank_every of at least 1",
        )


def check_pictures(spec: MemorySpec) -> None:
    """Refuse a memory in which pictures of the cast have no place. Raises GroundedError."""
    if spec.walk:
        why = "walks over its anchors"
    elif not spec.capacity:
        why = "keeps no anchors"
    elif POLICIES[spec.anchor_policy].averages:
        why = "averages its anchors"
    else:
        return
    raise GroundedError(
        f"this memory {why}, so pictures of the cast have no place in it",
        fix="use another memory, such as grounded, or remove the pictures behind @cast",
    )


def check_heads(spec: MemorySpec, model: ModelSpec, size: int) -> None:
    """Refuse a table of heads that is not of this model, or that no memory could serve; size: tokens of a frame.

    Raises GroundedError.
    """
    if not spec.heads:
        return
    entries = {entry for row in spec.heads for entry in row}
    picks = [entry[1] for entry in entries if len(entry) == 3]
    fits = len(spec.heads) == model.num_layers and all(len(row) == model.num_heads for row in spec.heads)
    fits = fits and all(2 <= len(entry) <= 3 and min(entry) >= 0 for entry in entries)
    if fits and (not picks or (size % spec.heads_runs == 0 and max(picks) + spec.chunk <= spec.recent)):
        return
    raise GroundedError(
        f"the table of heads does not fit {model.num_layers} layers of {model.num_heads} heads, {spec.recent} recent "
        f"frames and frames of {size} tokens in {spec.heads_runs} runs",
        fix="use the table that was made for this model; picking wants a chunk more of recent frames than a head sees",
    )
