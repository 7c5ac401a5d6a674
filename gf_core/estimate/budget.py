"""What a film will cost, said before the first step: memory, disk, minutes. Arithmetic only; needs no torch.

Device memory is counted in `room`, disk in `disk`; minutes are those of the films before (`measured`).
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import Encoding, Recipe, VideoSpec
from ..errors import ResourceError
from ..timeline.plan import Plan
from ..words import counted, size
from .disk import DiskCost, disk_cost
from .fit import NOTHING, fit_line
from .measured import Pace, recall_bits, recall_pace, sheet_key, size_key, speed_key
from .room import MARGIN, ModelCost, parts_of

if TYPE_CHECKING:
    from ..take.reuse import Reuse

UNLIKE = 2.5
"""Times as many pixels, or as few, as a model was trained for, from which on that is said."""
SHRINK = (0.875, 0.75, 0.625, 0.5, 0.375, 0.25)
"""Sizes to try when a film does not fit, as shares of the side asked for."""


@dataclass(frozen=True)
class Budget:
    """The estimate of one film."""

    plan: Plan
    """All of the film."""
    cost: ModelCost
    """Of the model."""
    recipe: Recipe
    """Memory, sampler, size and speed."""
    upscale: int
    """How many times larger the film is shown than it is made."""
    chunks: int
    """That the film is to have, of the plan's."""
    disk: DiskCost
    """Latents, films, notes and kept states."""
    pace: Pace | None
    """Of the last film on this machine with these settings; None when never measured."""
    kept: int = 0
    """Chunks that are in the Take already, of `chunks`."""
    changed: str = ""
    """Why the others have to be made, where something was there before."""
    own: VideoSpec | None = None
    """The pictures that the model was trained for, where that is known."""
    lead: int = 0
    """Pictures that the film begins with and that were given."""
    compiling: float = 0.0
    """Seconds for which the network was compiled before a moment of it was tried."""

    @property
    def frames(self) -> int:
        """Pictures."""
        return self.pictures(self.chunks)

    def pictures(self, chunks: int) -> int:
        """Pictures of the film's first `chunks` chunks, the given ones included."""
        return self.plan.timing.pictures(chunks) + (self.lead if chunks else 0)

    @property
    def parts(self) -> dict[str, int]:
        """Bytes of memory by what they are for."""
        parts = parts_of(self.cost, self.recipe, self.upscale)
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
        width, height = self.recipe.video.width, self.recipe.video.height
        pictures = f"{width}x{height}"
        if self.upscale > 1:
            pictures = f"made at {pictures}, shown at {width * self.upscale}x{height * self.upscale}"
        time = "not measured on this machine yet; the first film with these settings does that"
        if self.pace is not None and self.minutes is not None:
            besides = f" and {self.pace.extra:.0f} s besides" if self.minutes and self.pace.extra >= 5 else ""
            time = f"{self.minutes:.1f} min at {self.pace.fps:.1f} frames/s{besides}"
        before = f"; {size(self.text)} before that, while prompts are encoded" if self.text else ""
        kept = []
        if self.kept:
            why = f"; {self.changed}" if self.changed else ""
            kept = [f"kept    {self.kept} of {self.chunks} chunks are there already{why}"]
        return [
            f"film    {seconds:.2f} s{snapped}, {self.frames} frames, {pictures}, "
            f"{counted(len(segments), 'segment')}, {counted(self.chunks, 'chunk')}",
            f"memory  {size(self.peak)}: {', '.join(f'{k} {size(v)}' for k, v in self.parts.items())}{before}",
            f"disk    {self.disk.line()}",
            *([fit_line(self.cost, self.recipe)] if self.cost.fit != NOTHING else []),
            *self._strange(),
            *kept,
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


def estimate(
    plan: Plan,
    cost: ModelCost,
    recipe: Recipe,
    encoding: Encoding | None = None,
    *,
    stop: int | None = None,
    reuse: Reuse | None = None,
    sheet: bool = False,
    lead: int = 0,
) -> Budget:
    """The cost of a plan with these settings.

    encoding: None is H.264 at quality 18.
    stop: chunks that the film is to have; None is all.
    reuse: what of it lies in the Take.
    sheet: a contact sheet is drawn.
    lead: latent frames that the film starts from.
    """
    encoding, video = encoding or Encoding(), recipe.video
    pace = recall_pace(speed_key(cost, recipe))
    chunks = plan.chunks if stop is None else stop
    kept = 0 if reuse is None else len(reuse.chunks)
    disk = disk_cost(
        plan,
        cost,
        recipe,
        upscale=encoding.upscale,
        bits=recall_bits(size_key(cost.fingerprint, video, encoding)),
        pace=pace,
        stop=chunks,
        kept=kept,
        in_place=reuse.frames if reuse is not None and reuse.goes_on else 0,
        page=recall_bits(sheet_key(cost.fingerprint, video)) if sheet else 0.0,
        lead=lead,
    )
    changed = "" if reuse is None else reuse.changed
    given = lead * plan.timing.time_stride
    return Budget(plan, cost, recipe, encoding.upscale, chunks, disk, pace, kept, changed, lead=given)


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
