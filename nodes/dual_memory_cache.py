"""Dual Memory Cache: what the model may look back on while it makes the next moment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

from comfy_api.latest import io

from ..gf_core.config import (
    FLUSH_KEEP,
    AnchorIndex,
    AnchorPolicy,
    AnchorUpdate,
    MemorySpec,
    Positions,
    Stored,
    SwitchPolicy,
)
from ..gf_core.memory.policies import becomes_of_anchors
from ..gf_core.memory.presets import PRESETS
from ..gf_core.words import counted
from .compat import choice, number, schema
from .host import said_plainly
from .types import Memory

FAR = 10**6
"""A frame number late in a film, where no place in time changes any more."""
PRESET = "preset"
"""In a list: take the preset's."""


class DualMemoryCache(io.ComfyNode):
    """Settings of the memory; it holds no tensors."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="GF_DualMemoryCache",
            display_name="Dual Memory Cache",
            description="What the model remembers of the film so far: a few anchors that hold the cast, and the most "
            "recent frames that hold the motion. Leave this node away to use what the model was trained for.",
            search_aliases=[
                "kv cache",
                "sink",
                "attention window",
                "memory",
                "anchors",
                "longlive",
                "self forcing",
            ],
            inputs=[
                choice(
                    "preset",
                    list(PRESETS),
                    "A published method as a whole. grounded is this pack's own; the others are for comparison "
                    "or for models trained their way.",
                ),
                *_sizes(),
                *_policies(),
            ],
            outputs=[
                Memory.Output(display_name="memory", tooltip="For Stream Sampler."),
                io.String.Output(display_name="diagram", tooltip="The memory window drawn as text."),
            ],
        )

    @classmethod
    @said_plainly
    def execute(
        cls,
        preset: str,
        anchors: int,
        recent: int,
        recache: float,
        **policies: str,
    ) -> io.NodeOutput:
        sizes = {"anchors": anchors, "recent": recent, "alpha_max": recache}
        changes: dict[str, Any] = {name: size for name, size in sizes.items() if size >= 0}
        changes |= {name: policy for name, policy in policies.items() if policy != PRESET}
        spec = build_memory(preset, changes)
        return io.NodeOutput(spec, diagram(spec))


def build_memory(preset: str, changes: dict[str, Any]) -> MemorySpec:
    """The preset with `changes` in it. Raises GroundedError: no film could run under it."""
    from ..gf_core.memory.checks import check

    base = PRESETS[preset]
    if changes.get("positions", base.positions) != base.positions:
        # The limit belongs to positions inside the window; counted from the film's start they grow for ever.
        changes = {**changes, "max_position": None if changes["positions"] == "absolute" else 20}
    spec = replace(base, **changes)
    check(spec)
    return spec


def diagram(spec: MemorySpec) -> str:
    """The full window as text: regions, and where in time each frame stands."""
    from ..gf_core.memory.regions import full_layout, positions

    layout, marks = full_layout(spec), {"anchors": "A", "bank": "B", "recent": "r", "new": "*"}
    sizes = {("new" if name == "current" else name): count for name, count in layout.regions()}
    regions = [(name, marks[name], count) for name, count in sizes.items()]
    heads = [name.ljust(5 * count) for name, _, count in regions if count]
    boxes = ["".join(f"[{mark:^3}]" for _ in range(count)) for _, mark, count in regions if count]
    lines = [
        f"{counted(layout.total, 'latent frame')} in view: "
        + ", ".join(f"{n} {name}" for name, n in sizes.items()),
        "",
        "  ".join(heads).rstrip(),
        "  ".join(box.ljust(len(head)) for box, head in zip(boxes, heads)).rstrip(),
    ]
    if spec.positions == "absolute":
        lines.append("places in time: the frames' own numbers in the film")
    else:
        late = range(FAR, FAR + layout.total)
        lines.append(_places(positions(spec, layout, late), heads, regions))
    lines += ["", f"prompt switch (then): {_switch(spec)}", f"anchors: {_anchors(spec)}"]
    return "\n".join(lines)


def _places(times: tuple[int, ...], heads: list[str], regions: list[tuple[str, str, int]]) -> str:
    rows, at = [], 0
    for count, head in zip((count for _, _, count in regions if count), heads):
        rows.append("".join(f"{time:^5}" for time in times[at : at + count]).ljust(len(head)))
        at += count
    return "  ".join(rows).rstrip() + "   place in time"


def _switch(spec: MemorySpec) -> str:
    return {
        "apr": f"the recent frames are rebuilt under the new prompt, the newest by {spec.alpha_max:.0%}",
        "recache": "the memory is rebuilt under the new prompt",
        "cross_only": "the text changes, the memory stays",
        "flush": f"all but the {FLUSH_KEEP} newest frames leave recent memory, as at a cut",
    }[spec.switch]


def _anchors(spec: MemorySpec) -> str:
    if not spec.capacity:
        return "none"
    if spec.walk:
        return "the first frames, walked forward and back where recent frames lay"
    return becomes_of_anchors(spec)


def _sizes() -> list[Any]:
    return [
        _size(
            "anchors", -1, (-1, 64), "Frames kept for the whole film to hold the cast. -1: the preset's (3)."
        ),
        _size(
            "recent", -1, (-1, 64), "Most recent past frames, which hold the motion. -1: the preset's (6)."
        ),
        _size(
            "recache",
            -1.0,
            (-1.0, 1.0),
            "How far the newest memory is rebuilt under the new prompt at a then: (0 not at all, 1 wholly). "
            "-1: the preset's (0.8). A segment's own recache goes first.",
            step=0.05,
            round=0.001,
        ),
    ]


def _size(name: str, default: float, limits: tuple[float, float], tooltip: str, **more: Any) -> Any:
    return number(name, default, limits, tooltip, display_name=f"{name} (-1 = {PRESET})", **more)


def _policies() -> list[Any]:
    return [
        _choice(
            "anchor_policy", AnchorPolicy, "How anchors are replaced: to be more different from each other "
            "(diversity), by the paper's equation to the letter, never (frozen), averaged (ema), or no anchors."
        ),
        _choice("anchor_update", AnchorUpdate, "When an anchor may be replaced."),
        _choice(
            "switch", SwitchPolicy, "What a then: does to the memory: apr rebuilds recent frames by their age, "
            "recache rebuilds all, cross_only changes the text alone, flush keeps only the two newest recent frames."
        ),
        _choice("anchor_index", AnchorIndex, "Place of anchors in time: all at zero (the paper), or one after another.",
                advanced=True),
        _choice("positions", Positions, "Places of frames in time: inside the window, since the film began, or "
                "at the top of what was trained.",
                advanced=True),
        _choice("stored", Stored, "How keys and values lie in memory: full as they were computed, int8 in a byte each, "
                "which takes a third of the room and is another, nearly equal film.",
                advanced=True, optional=True),
    ]  # fmt: skip


def _choice(name: str, values: Any, tooltip: str, **more: bool) -> Any:
    return choice(name, [PRESET, *get_args(values)], f"{tooltip} preset: as the preset says.", **more)
