"""What decides the pixels of a run: checked before the first step, written down, and hashed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import av
import psutil
import torch

from ..attention.backends import pick
from ..config import MemorySpec, SampleSpec, VideoSpec
from ..errors import GroundedError, ResourceError
from ..timeline.plan import Plan
from ..video.codecs import find_codec
from .budget import bundle_cost, decode_bytes, memory_bytes, work_bytes

if TYPE_CHECKING:
    from torch import Tensor

    from ..checkpoints.bundle import ModelBundle

ENGINE = 2
"""Raised whenever the same settings would give other pixels than before."""


@dataclass(frozen=True)
class FilmSpec:
    """How the film is encoded; it changes nothing in the latents."""

    codec: str = "h264"
    """A name in `video.codecs`."""
    quality: int = 18
    """H.264 scale: 0 is lossless, 18 looks so, 51 is the worst."""
    upscale: int = 1
    """Whole-number enlargement."""


def film_facts(
    bundle: ModelBundle,
    memory: MemorySpec,
    sample: SampleSpec,
    video: VideoSpec,
    start_frames: Tensor | None = None,
) -> dict[str, Any]:
    """Everything outside the storyboard that decides the latents, as plain JSON values.

    The codec's fingerprint counts when it encoded `start_frames` [t H W 3]; decoding is not part of the latents.
    """
    facts: dict[str, Any] = {
        "engine": ENGINE,
        "model": bundle.fingerprint,
        "text": bundle.text.fingerprint,
        "memory": asdict(memory),
        "sample": asdict(sample),
        "size": [video.width, video.height],
        "kernels": kernels(bundle),
    }
    if start_frames is not None:
        pixels = start_frames.detach().cpu().contiguous().numpy().tobytes()
        facts["start"] = [bundle.codec.fingerprint, hashlib.sha256(pixels).hexdigest()]
    return json.loads(json.dumps(facts))


def film_key(
    bundle: ModelBundle,
    memory: MemorySpec,
    sample: SampleSpec,
    video: VideoSpec,
    start_frames: Tensor | None = None,
) -> str:
    """Hash of `film_facts`: the plan's `base_key`."""
    return hash_facts(film_facts(bundle, memory, sample, video, start_frames))


def hash_facts(facts: Any) -> str:
    """Hex SHA-256 of plain JSON values."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def kernels(bundle: ModelBundle) -> dict[str, Any]:
    """What decides the last bit of a sum: device, number type, library, and on the CPU how the work is divided.

    Measured with the built-in model: one thread and two give different latents from the first chunk on.
    """
    device = bundle_device(bundle)
    facts: dict[str, Any] = {
        "device": device_name(device),
        "dtype": str(bundle_dtype(bundle)).removeprefix("torch."),
        "torch": str(torch.__version__),
    }
    if device.type == "cpu":
        facts |= {"instructions": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads()}
    attention = pick(device, bundle_dtype(bundle), bundle.spec.head_dim, host=bundle.kernel).name
    return facts if attention == "sdpa" else {**facts, "attention": attention}


def bundle_device(bundle: ModelBundle) -> torch.device:
    """Where the model computes: what the bundle says, else where its parameters are."""
    return bundle.device or next(bundle.model.parameters()).device


def bundle_dtype(bundle: ModelBundle) -> torch.dtype:
    """What the model computes in: what the bundle says, else the type of its parameters."""
    return bundle.dtype or next(bundle.model.parameters()).dtype


def make_ready(spec: RunSpec, *, with_memory: bool = False) -> None:
    """Have a host bring the weights to the device; it keeps free what a chunk needs, and first the memory's bytes."""
    if spec.bundle.ready is None:
        return
    cost = bundle_cost(spec.bundle)
    need = work_bytes(cost, spec.memory, spec.video) + decode_bytes(cost, spec.video)
    spec.bundle.ready(need + (memory_bytes(cost, spec.memory, spec.video) if with_memory else 0))


@dataclass(frozen=True)
class RunSpec:
    """Everything that one run is made from."""

    bundle: ModelBundle
    """Model, text encoder, codec."""
    plan: Plan
    """Segments in chunks."""
    memory: MemorySpec
    """Geometry and policies of the dual memory."""
    sample: SampleSpec
    """The sampler."""
    video: VideoSpec
    """Size and speed."""
    film: FilmSpec
    """How the film is encoded."""
    start_frames: Tensor | None = None
    """Pictures [t H W 3] that the film starts from."""

    @property
    def lead(self) -> int:
        """Latent frames of `start_frames`; each is `time_stride` pictures more in the film."""
        frames, stride = self.start_frames, self.bundle.codec.time_stride
        return 0 if frames is None else 1 + (frames.shape[0] - 1) // stride

    @property
    def latent_size(self) -> tuple[int, int]:
        """(rows, columns) of a latent frame."""
        stride = self.bundle.codec.spatial_stride
        return self.video.height // stride, self.video.width // stride

    def latent_shape(self, chunk: int) -> tuple[int, ...]:
        """Latent shape [1 f c h w] of chunk number `chunk` of the film."""
        first = self.sample.first_chunk_frames if chunk == 0 else None
        return (1, first or self.memory.chunk, self.bundle.spec.in_dim, *self.latent_size)

    def check(self) -> None:
        """Refuse, in words, what cannot be rendered.

        Raises:
            ResourceError: the size does not fit the model's grid.
            GroundedError: plan, memory, sampler and codec disagree about time.
        """
        self._check_size()
        self._check_time()

    def _check_size(self) -> None:
        video, grid = self.video, self.bundle.codec.spatial_stride * self.bundle.spec.patch_size[1]
        if video.width % grid or video.height % grid or min(video.width, video.height) < grid:
            width, height = (max(grid, round(side / grid) * grid) for side in (video.width, video.height))
            raise ResourceError(
                f"{video.width}x{video.height} does not fit the model's grid of {grid} pixels",
                f"use {width}x{height}",
            )

    def _check_time(self) -> None:
        timing, stride = self.plan.timing, self.bundle.codec.time_stride
        for name, planned, wanted in (
            ("frames per second", timing.fps, self.video.fps),
            ("latent frames in a chunk", timing.chunk_frames, self.memory.chunk),
            ("latent frames in the first chunk", timing.first_chunk_frames, self.sample.first_chunk_frames),
            ("pictures per latent frame", timing.time_stride, stride),
        ):
            if planned != wanted:
                raise GroundedError(
                    f"the plan was made for {planned} {name}, the model and settings say {wanted}",
                    "plan the storyboard with the timing of the same model and settings",
                )

    def describe(self) -> dict[str, Any]:
        """The run's `settings.json`.

        `film_key` names what made the latents beside the storyboard, `pictures_key` what makes a film of them.
        """
        bundle = self.bundle
        facts = film_facts(bundle, self.memory, self.sample, self.video, self.start_frames)
        pictures = self.picture_facts()
        return {
            "film_key": hash_facts(facts),
            "pictures_key": hash_facts(pictures),
            "facts": facts,
            "pictures": pictures,
            "model": {"name": bundle.name, "fingerprint": bundle.fingerprint, "spec": asdict(bundle.spec)},
            "text": bundle.text.fingerprint,
            "codec": bundle.codec.fingerprint,
            "memory": asdict(self.memory),
            "sample": asdict(self.sample),
            "video": asdict(self.video),
            "film": asdict(self.film),
            "machine": facts["kernels"],
            "segments": [
                {
                    "number": segment.index + 1,
                    "verb": segment.verb,
                    "prompt": segment.prompt,
                    "seed": segment.seed,
                    "first_chunk": segment.first_chunk,
                    "chunks": segment.chunks,
                    "seconds": segment.seconds,
                    "blend": segment.blend_chunks,
                    "recache": segment.recache,
                    "key": segment.key,
                }
                for segment in self.plan.segments
            ],
        }

    def picture_facts(self) -> dict[str, Any]:
        """What turns given latents into the bytes of a film: decoder, speed, encoding."""
        encoder, choice = find_codec(self.film.codec)
        return {
            "codec": self.bundle.codec.fingerprint,
            "film": asdict(self.film),
            "fps": self.video.fps,
            "encoder": av.__version__,
            "options": {"encoder": encoder, **choice.options(encoder, self.film.quality)},
        }


def device_name(device: torch.device) -> str:
    """The card's own name, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def free_memory(bundle: ModelBundle) -> int:
    """Bytes free where the model is: on its card, or in the computer."""
    device = bundle_device(bundle)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available
