"""How fast and how large a film will be here, tried for a moment, where none was made with these settings before."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..config import MemorySpec, SampleSpec, VideoSpec
from ..sampling.noise import chunk_noise
from ..sampling.rollout import Rollout
from ..video.writer import FilmWriter
from .frames import to_uint8
from .measured import Pace
from .settings import FilmSpec, bundle_device, bundle_dtype

if TYPE_CHECKING:
    from torch import Tensor

    from ..checkpoints.bundle import ModelBundle

PATIENCE = 0.5
"""Seconds that one pass of the network may take; slower models are not tried, it would hold up the film."""
TIMED = 3
"""Chunks that are timed, after one that warms up decoder, encoder and threads; the middle one counts."""
ENOUGH = 2.0
"""Seconds of timing after which fewer chunks have to do."""


@dataclass(frozen=True)
class Trial:
    """What a few chunks took."""

    pace: Pace
    bits: float | None
    """Bits per pixel of their pictures as a film; None where they were made without a prompt."""
    frames: int
    """Pictures that this was told from."""


@torch.no_grad()
def try_out(
    bundle: ModelBundle, prompt: str | None, memory: MemorySpec, sample: SampleSpec, video: VideoSpec, film: FilmSpec,
) -> Trial | None:  # fmt: skip
    """Make a few chunks of `prompt` with a full memory, decoding and encoding beside the sampling as in a film.

    prompt: None where reading the text encoder would take longer than all the rest.

    Returns None where one pass takes longer than `PATIENCE`, or the model lives in a host that manages its weights.
    """
    if bundle.ready is not None:
        return None
    device, dtype, stride = bundle_device(bundle), bundle_dtype(bundle), bundle.codec.spatial_stride
    height, width = video.height // stride, video.width // stride
    rollout = Rollout(
        bundle.model, bundle.spec, memory, sample, latent_height=height, latent_width=width,
        device=device, dtype=dtype, kernel=bundle.kernel,
    )  # fmt: skip
    rng = torch.Generator().manual_seed(0)
    rows = torch.randn(1, min(32, bundle.spec.text_len), bundle.spec.text_dim, generator=rng).mul(0.1)
    rollout.start(rows.to(device, dtype))  # any text will do to see whether the model is quick
    shape = (1, memory.chunk, bundle.spec.in_dim, height, width)

    def noise(step: int) -> Tensor:
        return chunk_noise(0, 0, step, shape).to(device)

    rollout.prefill(noise(0).to(dtype))  # kernels are chosen in the first pass
    began = _now(device)
    rollout.prefill(noise(0).to(dtype))
    if _now(device) - began > PATIENCE:
        return None
    if prompt is not None:
        rollout.scene(bundle.text.encode([prompt])[0][None].to(device, dtype))
    latents = rollout.denoise_chunk(noise(0), noise)
    for _ in range(-(-(memory.anchors + memory.recent) // memory.chunk)):
        rollout.prefill(latents)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        with FilmWriter(
            path, video.width, video.height, video.fps, film.codec, film.quality, film.upscale
        ) as writer:
            pixels = video.width * video.height * film.upscale**2
            trial = _time_chunks(bundle, rollout, latents, noise, writer, pixels)
            return trial if prompt is not None else replace(trial, bits=None)


def _time_chunks(
    bundle: ModelBundle,
    rollout: Rollout,
    latents: Tensor,
    noise: Callable[[int], Tensor],
    writer: FilmWriter,
    pixels: int,
) -> Trial:
    """Sample, decode and encode side by side.

    latents: [1 f c h w] of the chunk before. pixels: of a picture of the film.
    """
    decoder, device = bundle.codec.decoder(), latents.device
    seconds: list[float] = []

    def finish(chunk: Tensor) -> None:
        with torch.no_grad():
            writer.write(to_uint8(decoder.decode(chunk)))

    finish(latents[0])  # the first chunk is shorter, and decoder and encoder are set up with it
    before, size = writer.frames, writer.path.stat().st_size
    while len(seconds) < 1 + TIMED and (len(seconds) < 2 or sum(seconds) < ENOUGH):
        began = _now(device)
        worker = threading.Thread(target=finish, args=(latents[0],), name="grounded-trying")
        worker.start()
        latents = rollout.denoise_chunk(noise(0), noise)
        worker.join()
        seconds.append(_now(device) - began)
    frames = writer.frames - before
    middle = statistics.median(seconds[1:])
    pace = Pace(
        frames / len(seconds) / middle, middle / 2
    )  # at the ends of a film one of the two works alone
    bits = (writer.path.stat().st_size - size) * 8 / (frames * pixels)
    return Trial(pace, bits, frames)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
