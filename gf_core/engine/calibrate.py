"""How fast a film will be here, tried for a moment, where no film was made with these settings before."""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..config import MemorySpec, SampleSpec, VideoSpec
from ..sampling.noise import chunk_noise
from ..sampling.rollout import Rollout
from ..video.writer import FilmWriter
from .frames import to_uint8
from .settings import FilmSpec, bundle_device, bundle_dtype
from .speeds import recall_speed, remember_speed, speed_key

if TYPE_CHECKING:
    from ..checkpoints.bundle import ModelBundle
    from .budget import ModelCost

PATIENCE = 1.0
"""Seconds that one pass of the network may take; slower models are not tried, it would hold up the film."""
TRIED_CHUNKS = 2
"""Chunks that are timed; one alone is too much at the mercy of what else the machine does."""
PROMPT_ROWS = 32


def expected_speed(
    bundle: ModelBundle,
    cost: ModelCost,
    memory: MemorySpec,
    sample: SampleSpec,
    video: VideoSpec,
    film: FilmSpec,
) -> float | None:
    """Pictures per second: of the last film with these settings, else tried now and remembered; None if too slow."""
    key = speed_key(cost.device, cost.fingerprint, memory, sample, video)
    fps = recall_speed(key)
    if fps is None:
        fps = calibrate(bundle, memory, sample, video, film)
        if fps is not None:
            remember_speed(key, fps)
    return fps


@torch.no_grad()
def calibrate(
    bundle: ModelBundle, memory: MemorySpec, sample: SampleSpec, video: VideoSpec, film: FilmSpec
) -> float | None:
    """Pictures per second of chunks in the middle of a film: memory full, decoding and encoding beside them.

    None where one pass takes longer than `PATIENCE`, or the model lives in a host that manages its weights.
    """
    if bundle.ready is not None:
        return None
    device, dtype, stride = bundle_device(bundle), bundle_dtype(bundle), bundle.codec.spatial_stride
    height, width = video.height // stride, video.width // stride
    rollout = Rollout(
        bundle.model, bundle.spec, memory, sample, latent_height=height, latent_width=width,
        device=device, dtype=dtype, kernel=bundle.kernel,
    )  # fmt: skip
    rows = min(PROMPT_ROWS, bundle.spec.text_len)
    rng = torch.Generator().manual_seed(0)
    rollout.start(torch.randn(1, rows, bundle.spec.text_dim, generator=rng).mul(0.1).to(device, dtype))
    shape = (1, memory.chunk, bundle.spec.in_dim, height, width)

    def noise(step: int) -> torch.Tensor:
        return chunk_noise(0, 0, step, shape).to(device)

    latents = noise(0).to(dtype)
    rollout.prefill(latents)  # kernels are chosen in the first pass
    began = _now(device)
    rollout.prefill(latents)
    if _now(device) - began > PATIENCE:
        return None
    for _ in range(-(-(memory.anchors + memory.recent) // memory.chunk) - 2):
        rollout.prefill(latents)
    decoder = bundle.codec.decoder()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        with FilmWriter(
            path, video.width, video.height, video.fps, film.codec, film.quality, film.upscale
        ) as writer:

            def finish() -> None:
                with torch.no_grad():
                    writer.write(to_uint8(decoder.decode(latents[0])))

            finish()  # the first chunk is shorter, and decoder and encoder are set up with it
            began, before = _now(device), writer.frames
            for _ in range(TRIED_CHUNKS):
                worker = threading.Thread(target=finish, name="grounded-calibrating")
                worker.start()
                rollout.denoise_chunk(noise(0), noise, lambda step, steps: None)
                worker.join()
            return (writer.frames - before) / (_now(device) - began)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
