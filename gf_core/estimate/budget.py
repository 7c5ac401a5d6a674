"""What a film will cost, said before the first step: memory, disk, minutes. Arithmetic only; needs no torch.

Device memory is counted in `room`, disk in `disk`; minutes are those of the films before (`measured`).
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import Encoding, Recipe
from ..errors import ResourceError
from ..timeline.plan import Plan
from ..words import size
from .disk import DiskCost, disk_cost
from .measured import Pace, recall_bits, recall_pace, sheet_key, size_key, speed_key
from .room import ModelCost, decode_bytes, encode_bytes, work_bytes

if TYPE_CHECKING:
    from ..take.reuse import Reuse

MARGIN = 1.1
"""Allocators never use memory to the last byte."""
FIRST_USE = 20 * 2**20
"""Bytes of kernels and libraries that come into memory with the first chunk; measured."""
SHRINK = (0.875, 0.75, 0.625, 0.5, 0.375, 0.25)
"""Sizes to try when a film does not fit, as shares of the side asked for."""


@dataclass(frozen=True)
class Budget:
    """The estimate. Bytes unless said."""

    segments: int
    chunks: int
    frames: int
    """Pictures."""
    seconds: float
    """Of film, after snapping to chunks."""
    asked_seconds: float
    """Of film, as written."""
    width: int
    height: int
    weights: int
    """Transformer."""
    memory: int
    """Anchors, recent frames and current chunk."""
    work: int
    """Activations of one network call."""
    decode: int
    """Decoder, its state included."""
    disk: DiskCost
    """Latents, films, notes and kept states."""
    pace: Pace | None
    """Of the last film on this machine with these settings; None when never measured."""
    loaded: bool = False
    """The weights are in memory already."""
    resident: int = 0
    """What the program holds already, weights included, where that counts; else 0."""
    encode: int = 0
    """The film's encoder, where it shares the memory."""
    upscale: int = 1
    """How many times larger the film is shown than it is made."""
    kept: int = 0
    """Chunks that are in the Take already, of `chunks`."""
    kept_frames: int = 0
    """Pictures of these."""
    changed: str = ""
    """Why the others have to be made, where something was there before."""

    @property
    def peak(self) -> int:
        """Bytes of device memory at the busiest moment; of the whole program where it computes on the processor."""
        if self.resident:
            return self.resident + self.memory + self.work + self.decode + self.encode + FIRST_USE
        return int((self.weights + self.memory + self.work + self.decode) * MARGIN)

    @property
    def to_come(self) -> int:
        """Bytes of `peak` that are not taken yet."""
        return self.peak - (self.resident or (self.weights if self.loaded else 0))

    @property
    def minutes(self) -> float | None:
        """Wall minutes, None when the speed is not known."""
        if self.pace is None:
            return None
        fresh = self.frames - self.kept_frames
        return (self.pace.extra + fresh / self.pace.fps) / 60 if fresh else 0.0

    def lines(self) -> list[str]:
        """The estimate as text lines."""
        parts = {"weights": self.weights, "memory": self.memory, "work": self.work, "decoder": self.decode}
        if self.resident:
            parts = {"program": self.resident - self.weights + FIRST_USE, **parts, "encoder": self.encode}
        snapped = (
            "" if abs(self.seconds - self.asked_seconds) < 0.005 else f" (asked {self.asked_seconds:.2f} s)"
        )
        time = "not measured on this machine yet; the first film with these settings does that"
        if self.pace is not None and self.minutes is not None:
            time = f"{self.minutes:.1f} min at {self.pace.fps:.1f} frames/s"
        pictures = f"{self.width}x{self.height}"
        if self.upscale > 1:
            shown = f"{self.width * self.upscale}x{self.height * self.upscale}"
            pictures = f"made at {pictures}, shown at {shown}"
        kept = []
        if self.kept:
            why = f"; {self.changed}" if self.changed else ""
            kept = [f"kept    {self.kept} of {self.chunks} chunks are there already{why}"]
        return [
            f"film    {self.seconds:.2f} s{snapped}, {self.frames} frames, {pictures}, "
            f"{self.segments} segments, {self.chunks} chunks",
            f"memory  {size(self.peak)}: "
            + ", ".join(f"{name} {size(value)}" for name, value in parts.items()),
            f"disk    {self.disk.line()}",
            *kept,
            f"time    {time}",
        ]


def estimate(
    plan: Plan,
    cost: ModelCost,
    recipe: Recipe,
    encoding: Encoding | None = None,
    *,
    stop: int | None = None,
    reuse: Reuse | None = None,
    sheet: bool = False,
) -> Budget:
    """The cost of a plan with these settings.

    Args:
        encoding: None is H.264 at quality 18.
        stop: chunks that the film is to have; None is all.
        reuse: what of it lies in the Take.
        sheet: a contact sheet is drawn.
    """
    encoding, video = encoding or Encoding(), recipe.video
    upscale = encoding.upscale
    pace = recall_pace(speed_key(cost.device, cost.fingerprint, recipe))
    chunks = plan.chunks if stop is None else stop
    kept = 0 if reuse is None else len(reuse.chunks)
    inside = [segment for segment in plan.segments if segment.first_chunk < chunks]
    return Budget(
        segments=len(inside),
        chunks=chunks,
        frames=plan.timing.pictures(chunks),
        seconds=plan.timing.pictures(chunks) / plan.timing.fps,
        asked_seconds=sum(segment.asked_seconds for segment in inside),
        width=video.width,
        height=video.height,
        weights=cost.weight_bytes,
        memory=cost.sizes(recipe).buffers,
        work=work_bytes(cost, recipe),
        decode=decode_bytes(cost, video),
        disk=disk_cost(
            plan,
            cost,
            recipe,
            upscale=upscale,
            bits=recall_bits(size_key(cost.fingerprint, video, encoding)),
            pace=pace,
            stop=chunks,
            kept=kept,
            in_place=reuse.frames if reuse is not None and reuse.goes_on else 0,
            page=recall_bits(sheet_key(cost.fingerprint, video)) if sheet else 0.0,
        ),
        pace=pace,
        loaded=cost.loaded,
        resident=cost.resident,
        upscale=upscale,
        encode=encode_bytes(cost, video, upscale),
        kept=kept,
        kept_frames=plan.timing.pictures(kept),
        changed="" if reuse is None else reuse.changed,
    )


def check_budget(budget: Budget, cost: ModelCost, recipe: Recipe, *, free_memory: int, folder: Path) -> None:
    """Refuse a film that cannot fit, with the change that would.

    Args:
        free_memory: bytes free on the device.
        folder: where the Take and the film go; it need not exist yet.

    Raises:
        ResourceError: too little device memory, or too little disk.
    """
    if budget.to_come > free_memory:
        raise ResourceError(
            f"this film needs {size(budget.to_come)} of memory, {size(free_memory)} are free",
            _what_fits(budget, cost, recipe, free_memory),
        )
    free_disk = shutil.disk_usage(_existing(folder)).free
    if budget.disk.needed > free_disk:
        may = "needs" if budget.disk.known else "may need up to"
        raise ResourceError(
            f"this film {may} {size(budget.disk.needed)} on the disk of {folder}, {size(free_disk)} are free",
            "free some space, choose another folder, or make the film shorter",
        )


def _what_fits(budget: Budget, cost: ModelCost, recipe: Recipe, free: int) -> str:
    """The largest smaller picture that fits, in words."""
    grid, video = cost.spatial_stride * cost.spec.patch_size[1], recipe.video
    for share in SHRINK:
        width, height = (max(grid, int(side * share) // grid * grid) for side in (video.width, video.height))
        smaller = replace(recipe, video=replace(video, width=width, height=height))
        tried = replace(
            budget,
            memory=cost.sizes(smaller).buffers,
            work=work_bytes(cost, smaller),
            decode=decode_bytes(cost, smaller.video),
            encode=encode_bytes(cost, smaller.video, budget.upscale),
        )
        if tried.to_come <= free:
            return f"{width}x{height} fits; or keep fewer frames in memory, or close other programs"
    return "use a smaller model or a device with more memory: no picture size fits"


def _existing(folder: Path) -> Path:
    """The nearest folder above that exists."""
    folder = folder.resolve()
    while not folder.exists():
        folder = folder.parent
    return folder
