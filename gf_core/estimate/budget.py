"""What a film will cost, said before the first step: memory, disk, minutes. Arithmetic only; needs no torch.

Device memory is counted in `room`, disk in `disk`; minutes are those of the films before (`measured`).
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..config import VideoSpec
from ..errors import ResourceError
from ..words import counted, part_of, size, span
from .disk import DiskCost, disk_cost
from .fit import NOTHING, fit_line
from .measured import Pace, recall_bits, recall_pace, sheet_key, size_key, speed_key
from .order import Order
from .room import MARGIN, parts_of

UNLIKE = 2.5
"""Times as many pixels, or as few, as a model was trained for, from which on that is said."""
SHRINK = (0.875, 0.75, 0.625, 0.5, 0.375, 0.25)
"""Sizes to try when a film does not fit, as shares of the side asked for."""


@dataclass(frozen=True)
class Budget(Order):
    """The estimate of one film."""

    disk: DiskCost = field(default_factory=DiskCost)
    """Latents, films, notes and kept states."""
    pace: Pace | None = None
    """Of the last film on this machine with these settings; None when never measured."""
    own: VideoSpec | None = None
    """The pictures that the model was trained for, where that is known."""
    compiling: float = 0.0
    """Seconds for which the network was compiled before a moment of it was tried."""

    @property
    def parts(self) -> dict[str, int]:
        """Bytes of memory by what they are for."""
        parts = parts_of(self.cost, self.recipe, self.encoding.upscale)
        # One lies beside the memory while it is written or read.
        if self.cost.resident and self.plan.recalled:
            parts["recalled"] = self.cost.sizes(self.recipe).state(self.recipe.memory.slots)
        return parts

    @property
    def text(self) -> int:
        """Bytes of device memory while the text encoder reads the prompts, before the film; 0 where it need not."""
        cost = self.cost
        needed = (cost.held + cost.text) if cost.text else 0
        return needed if cost.resident else int(needed * MARGIN)

    @property
    def peak(self) -> int:
        """Bytes of device memory at the busiest moment; of the whole program where it computes on the processor."""
        needed = sum(self.parts.values())
        return max(self.text, needed if self.cost.resident else int(needed * MARGIN))

    @property
    def to_come(self) -> int:
        """Bytes of `peak` that are not taken yet."""
        return self.peak - self.cost.held

    @property
    def minutes(self) -> float | None:
        """Wall minutes, None when the speed is not known."""
        if self.pace is None:
            return None
        fresh = self.frames - self.pictures(self.kept)
        return (self.pace.extra + fresh / self.pace.fps) / 60 if fresh else 0.0

    def lines(self) -> list[str]:
        """The estimate as text lines."""
        seconds = self.frames / self.plan.timing.fps
        segments = [segment for segment in self.plan.segments if segment.first_chunk < self.chunks]
        asked = sum(segment.asked_seconds for segment in segments)
        snapped = "" if abs(seconds - asked) < 0.005 else f" (asked {asked:.2f} s)"
        width, height, times = self.recipe.video.width, self.recipe.video.height, self.encoding.upscale
        pictures = f"{width}x{height}"
        if times > 1:
            pictures = f"made at {pictures}, shown at {width * times}x{height * times}"
        time = "not measured on this machine yet; the first film with these settings does that"
        there = self.reuse if self.kept == self.chunks else None
        if there is not None and (there.finished or not there.holes):
            decoded = there.decoded >= self.chunks
            time = (
                "nothing has to be made" if decoded else "that of decoding and encoding: nothing is sampled"
            )
        elif self.pace is not None and self.minutes is not None:
            besides = f" and {self.pace.extra:.0f} s besides" if self.minutes and self.pace.extra >= 5 else ""
            time = f"{span(60 * self.minutes)} at {self.pace.fps:.1f} pictures/s{besides}"
        before = f"; {size(self.text)} before that, while prompts are encoded" if self.text else ""
        why = f"; {self.reuse.changed}" if self.reuse and self.reuse.changed else ""
        kept = f"kept    {part_of(self.kept, self.chunks, 'chunk')} there already{why}"
        named = {"memory": "what is remembered"}
        parts = ", ".join(f"{named.get(name, name)} {size(count)}" for name, count in self.parts.items())
        return [
            f"film    {seconds:.2f} s{snapped}, {counted(self.frames, 'picture')}, {pictures}, "
            f"{counted(len(segments), 'segment')}, {counted(self.chunks, 'chunk')}",
            f"memory  {size(self.peak)}: {parts}{before}",
            f"disk    {self.disk.line()}",
            *([fit_line(self.cost, self.recipe)] if self.cost.fit != NOTHING else []),
            *self._strange(),
            *([kept] if self.kept else []),
            f"time    {time}",
        ]

    def _strange(self) -> list[str]:
        """A line where the pictures are of another size than the model has learned."""
        if self.own is None:
            return []
        wide, high = self.recipe.video.width, self.recipe.video.height
        times = wide * high / (self.own.width * self.own.height)
        if 1 / UNLIKE < times < UNLIKE:
            return []
        how = f"{times:.0f} times" if times > 1 else f"{100 * times:.0f} % of"
        made = f"{self.own.width}x{self.own.height}"
        return [f"size    the model was made for {made}: at {how} the pixels it is out of its depth"]


def estimate(order: Order, *, sheet: bool = False) -> Budget:
    """What a film will cost. sheet: a contact sheet is drawn."""
    cost, video = order.cost, order.recipe.video
    pace = recall_pace(speed_key(cost, order.recipe))
    bits = recall_bits(size_key(cost.fingerprint, video, order.encoding))
    page = recall_bits(sheet_key(cost.fingerprint, video)) if sheet else 0.0
    return Budget(**vars(order), disk=disk_cost(order, bits=bits, pace=pace, page=page), pace=pace)


def check_budget(budget: Budget, *, free_memory: int, folder: Path) -> None:
    """Refuse a film that cannot fit, with the change that would.

    free_memory: bytes free on the device.
    folder: where the Take and the film go; it need not exist yet.

    Raises ResourceError: too little device memory, or too little disk.
    """
    if budget.to_come > free_memory:
        raise ResourceError(
            f"this film needs {size(budget.to_come)} of memory, {size(free_memory)} are free",
            _what_fits(budget, free_memory),
        )
    there = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    free_disk = shutil.disk_usage(there).free
    if budget.disk.needed > free_disk:
        may = "needs" if budget.disk.known else "may need up to"
        raise ResourceError(
            f"this film {may} {size(budget.disk.needed)} on the disk of {folder}, {size(free_disk)} are free",
            "free some space, choose another folder, or make the film shorter",
        )


def _what_fits(budget: Budget, free: int) -> str:
    """What would fit, in words: half the width of numbers, or the largest smaller picture."""
    cost, video, advice = budget.cost, budget.recipe.video, []
    if budget.text - cost.held > free:
        return (
            "close other programs: the text encoder alone does not fit; its rows are kept once they are made"
        )
    # What is held now is given back when the model is opened anew.
    if cost.value_bytes == 4 and replace(budget, cost=cost.halved()).peak <= free + cost.held:
        advice.append("bfloat16 fits (--dtype bfloat16 on the command line)")
    grid = cost.spatial_stride * cost.spec.patch_size[1]
    for share in SHRINK:
        width, height = (max(grid, int(side * share) // grid * grid) for side in (video.width, video.height))
        smaller = replace(budget.recipe, video=replace(video, width=width, height=height))
        if replace(budget, recipe=smaller).to_come <= free:
            advice.append(f"{width}x{height} fits")
            break
    if advice:
        return "; ".join([*advice, "or keep fewer frames in memory, or close other programs"])
    return "use a smaller model or a device with more memory: no picture size fits"
