"""What a film will cost, said before the first step: memory, disk, minutes. Arithmetic only; needs no torch.

Sizes of the transformer and of the memory are exact; working space and decoders are estimates on the safe side
(decoder figures: published peaks at 832x480, per picture pixel).
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import MemorySpec, ModelSpec, SampleSpec, VideoSpec
from ..errors import ResourceError
from ..memory.regions import Sizes
from ..timeline.plan import Plan
from ..words import size
from .decoders import DECODE_VALUES, Decoder, kind_of
from .disk_cost import DiskCost, disk_cost
from .measured import Pace, recall_bits, recall_pace, sheet_key, size_key, speed_key

if TYPE_CHECKING:
    from ..checkpoints.bundle import ModelBundle
    from .reuse import Reuse
    from .settings import FilmSpec

MARGIN = 1.1
"""Allocators never use memory to the last byte."""
ENCODE_BYTES = 100
"""Bytes that the film's encoder and its pictures take per pixel of the film; measured at 768x512."""
FIRST_USE = 20 * 2**20
"""Bytes of kernels and libraries that come into memory with the first chunk; measured."""
SHRINK = (0.875, 0.75, 0.625, 0.5, 0.375, 0.25)
"""Sizes to try when a film does not fit, as shares of the side asked for."""


@dataclass(frozen=True)
class ModelCost:
    """What the estimate has to know about a model."""

    spec: ModelSpec
    """Its shape."""
    value_bytes: int = 2
    """Bytes per number of weights and memory: 2 in bfloat16, 4 in float32."""
    weights: int | None = None
    """Bytes of the weights; None counts them from the shape."""
    decoder: Decoder = "wan"
    """Which decoder makes the pictures."""
    spatial_stride: int = 8
    """Picture pixels per latent cell."""
    fingerprint: str = ""
    """Of the model file; finds the speed measured last time."""
    device: str = "cpu"
    """Name of the card, or cpu."""
    loaded: bool = False
    """The weights are in memory already and count no more against what is free."""
    resident: int = 0
    """Bytes that the whole program holds, weights included, where it computes in the computer's memory; 0 on a card."""

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights."""
        return count_parameters(self.spec) * self.value_bytes if self.weights is None else self.weights

    def sizes(self, memory: MemorySpec, video: VideoSpec) -> Sizes:
        """What its memory of films of this size takes."""
        cells = video.height // self.spatial_stride, video.width // self.spatial_stride
        return Sizes(memory, self.spec, *cells, self.value_bytes)


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


def count_parameters(spec: ModelSpec) -> int:
    """Parameters of a Wan2.1 text-to-video transformer of this shape."""
    dim, ffn = spec.dim, spec.ffn_dim
    patch = spec.patch_size[0] * spec.patch_size[1] * spec.patch_size[2]
    attention = 4 * (dim * dim + dim) + 2 * dim
    block = 2 * attention + 2 * dim + (dim * ffn + ffn) + (ffn * dim + dim) + 6 * dim
    text = spec.text_dim * dim + dim + dim * dim + dim
    time = spec.freq_dim * dim + dim + dim * dim + dim + dim * 6 * dim + 6 * dim
    ends = spec.in_dim * patch * dim + dim + dim * patch * spec.out_dim + patch * spec.out_dim + 2 * dim
    return spec.num_layers * block + text + time + ends


def bundle_cost(bundle: ModelBundle) -> ModelCost:
    """What the estimate has to know about a loaded model."""
    import psutil

    from .settings import bundle_device, bundle_dtype, device_name

    device = bundle_device(bundle)
    return ModelCost(
        spec=bundle.spec,
        value_bytes=bundle_dtype(bundle).itemsize,
        weights=sum(weight.nbytes for weight in bundle.model.parameters()),
        decoder=kind_of(bundle.codec) or "wan",
        spatial_stride=bundle.codec.spatial_stride,
        fingerprint=bundle.fingerprint,
        device=device_name(device),
        loaded=True,
        resident=psutil.Process().memory_info().rss if device.type == "cpu" else 0,
    )


def memory_bytes(cost: ModelCost, memory: MemorySpec, video: VideoSpec) -> int:
    """Bytes of the dual memory: raw keys, rotated keys and values of every slot, and the latents behind them."""
    return cost.sizes(memory, video).buffers


def work_bytes(cost: ModelCost, memory: MemorySpec, video: VideoSpec) -> int:
    """Bytes of one network call: activations of the frames it runs over, and the prompt's keys and values."""
    spec = cost.spec
    height, width = video.height // cost.spatial_stride, video.width // cost.spatial_stride
    frames = max(memory.chunk, memory.recent if memory.switch in ("apr", "recache") else 0)
    tokens = frames * spec.tokens_per_frame(height, width)
    activations = tokens * ((10 * spec.dim + 2 * spec.ffn_dim) * cost.value_bytes + 12 * spec.dim)
    return activations + 2 * spec.num_layers * spec.text_len * spec.dim * cost.value_bytes


def decode_bytes(cost: ModelCost, video: VideoSpec) -> int:
    """Bytes of decoding one chunk, the state between chunks included."""
    return DECODE_VALUES[cost.decoder] * video.width * video.height * cost.value_bytes


def estimate(
    plan: Plan,
    cost: ModelCost,
    memory: MemorySpec,
    sample: SampleSpec,
    video: VideoSpec,
    film: FilmSpec | None = None,
    *,
    stop: int | None = None,
    reuse: Reuse | None = None,
    sheet: bool = False,
) -> Budget:
    """The cost of a plan with these settings.

    Args:
        film: how it is encoded; None is H.264 at quality 18.
        stop: chunks that the film is to have; None is all.
        reuse: what of it lies in the Take.
        sheet: a contact sheet is drawn.
    """
    codec, quality, upscale = ("h264", 18, 1) if film is None else (film.codec, film.quality, film.upscale)
    pace = recall_pace(speed_key(cost.device, cost.fingerprint, memory, sample, video))
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
        memory=memory_bytes(cost, memory, video),
        work=work_bytes(cost, memory, video),
        decode=decode_bytes(cost, video),
        disk=disk_cost(
            plan,
            cost,
            memory,
            video,
            upscale=upscale,
            bits=recall_bits(size_key(cost.fingerprint, video, codec, quality, upscale)),
            pace=pace,
            calls=len(sample.steps) + 1,
            stop=chunks,
            kept=kept,
            in_place=reuse.frames if reuse is not None and reuse.goes_on else 0,
            page=recall_bits(sheet_key(cost.fingerprint, video)) if sheet else 0.0,
        ),
        pace=pace,
        loaded=cost.loaded,
        resident=cost.resident,
        upscale=upscale,
        encode=ENCODE_BYTES * video.width * video.height * upscale**2 if cost.resident else 0,
        kept=kept,
        kept_frames=plan.timing.pictures(kept),
        changed="" if reuse is None else reuse.changed,
    )


def check_budget(
    budget: Budget, cost: ModelCost, memory: MemorySpec, video: VideoSpec, *, free_memory: int, folder: Path
) -> None:
    """Refuse a film that cannot fit, with the change that would.

    Args:
        free_memory: bytes free on the device (`settings.free_memory`).
        folder: where the Take and the film go; it need not exist yet.

    Raises:
        ResourceError: too little device memory, or too little disk.
    """
    if budget.to_come > free_memory:
        raise ResourceError(
            f"this film needs {size(budget.to_come)} of memory, {size(free_memory)} are free",
            _what_fits(budget, cost, memory, video, free_memory),
        )
    free_disk = shutil.disk_usage(_existing(folder)).free
    if budget.disk.needed > free_disk:
        may = "needs" if budget.disk.known else "may need up to"
        raise ResourceError(
            f"this film {may} {size(budget.disk.needed)} on the disk of {folder}, {size(free_disk)} are free",
            "free some space, choose another folder, or make the film shorter",
        )


def _what_fits(budget: Budget, cost: ModelCost, memory: MemorySpec, video: VideoSpec, free: int) -> str:
    """The largest smaller picture that fits, in words."""
    grid = cost.spatial_stride * cost.spec.patch_size[1]
    for share in SHRINK:
        width, height = (max(grid, int(side * share) // grid * grid) for side in (video.width, video.height))
        smaller = replace(video, width=width, height=height)
        tried = replace(
            budget,
            memory=memory_bytes(cost, memory, smaller),
            work=work_bytes(cost, memory, smaller),
            decode=decode_bytes(cost, smaller),
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
