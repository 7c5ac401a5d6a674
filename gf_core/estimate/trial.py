"""How fast and how large a film will be here, tried for a moment, where none was made with these settings before."""

from __future__ import annotations

import statistics
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..config import Encoding, Recipe
from ..devices import now
from ..sampling.film import Cues, film_chunks
from ..sampling.sampler import Clean, Sampler
from ..timeline import Plan, Segment, Storyboard, Timing, make_plan
from ..vae.base import to_uint8
from ..video.writer import FilmWriter
from .measured import Pace

if TYPE_CHECKING:
    from torch import Tensor

    from ..checkpoints.model_bundle import ModelBundle

GetReady = Callable[[Sampler, Plan], object]
"""Has compiled what the film of a plan will ask for."""
PATIENCE = 0.5
"""Seconds that one pass of the network may take; slower models are not tried, it would hold up the film."""
COLD = 5.0
"""The same of the first pass, in which kernels are chosen: nobody waits for a second one of a model that slow."""
TIMED = 3
"""Chunks that are timed, after one that warms up decoder, encoder and threads; the middle one counts."""
ENOUGH = 2.0
"""Seconds of timing after which fewer chunks have to do."""
ENDLESS = 3600
"""Seconds of film that no trial gets to the end of."""


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
    bundle: ModelBundle, prompt: str | None, recipe: Recipe, encoding: Encoding, get_ready: GetReady
) -> Trial | None:
    """Make a few chunks of `prompt` with a full memory, decoding and encoding beside the sampling as in a film.

    prompt: None where reading the text encoder would take longer than all the rest. get_ready: called where the network
    is compiled, as the film's own is: a first pass that compiles looks like a slow model.

    Returns None where a pass takes longer than `COLD`, the next than `PATIENCE`, or a host manages the weights.
    """
    if bundle.ready is not None:
        return None
    # A trial never gets to its segment's end; noise that is drawn for a whole one has a longest.
    recipe = replace(recipe, sample=replace(recipe.sample, noise="chunk"))
    sampler, device = bundle.sampler(recipe), bundle.computes_on
    director, memory, video = sampler.director, recipe.memory, recipe.video
    # The first chunk as long as the others: it fills the memory.
    timing = replace(Timing.of(recipe, bundle.codec.time_stride), first_chunk_frames=None)
    plan = make_plan(Storyboard(segments=(Segment("start", prompt or "any", ENDLESS),)), timing)
    if bundle.compiled:
        get_ready(sampler, plan)
    rng = torch.Generator().manual_seed(0)
    rows = torch.randn(1, min(32, bundle.spec.text_len), bundle.spec.text_dim, generator=rng).mul(0.1)
    director.start(rows)  # any text will do to see whether the model is quick
    some = torch.randn(director.shape(memory.chunk), generator=rng)
    for most in (COLD, PATIENCE):
        began = now(device)
        director.prefill(some)
        if now(device) - began > most:
            return None
    director.scene(rows)
    if prompt is not None:
        rows = bundle.text.encode([prompt])[0][None]
    chunks = film_chunks(sampler, Cues(plan, [rows]))
    first = next(chunks).latents
    for _ in range(-(-(memory.window - memory.chunk) // memory.chunk)):
        director.prefill(first)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        with FilmWriter(path, video, encoding) as writer:
            pixels = video.width * video.height * encoding.upscale**2
            trial = _time_chunks(bundle, first[0], chunks, writer, pixels)
            return trial if prompt is not None else replace(trial, bits=None)


def _time_chunks(
    bundle: ModelBundle, latents: Tensor, chunks: Iterator[Clean], writer: FilmWriter, pixels: int
) -> Trial:
    """Sample, decode and encode side by side.

    latents: [f c h w] of the chunk before. chunks: those that follow. pixels: of a picture of the film.
    """
    decoder, device = bundle.codec.decoder(), bundle.computes_on
    if bundle.compiled and (ready := getattr(decoder, "get_ready", None)) is not None:
        ready(*latents.shape[2:], [len(latents)] * 2)
    seconds: list[float] = []

    def finish(latents: Tensor) -> None:
        with torch.no_grad():
            writer.write(to_uint8(decoder.decode(latents.to(bundle.decodes_on))))

    finish(latents)  # the first chunk is shorter, and decoder and encoder are set up with it
    before, size = writer.frames, writer.path.stat().st_size
    while len(seconds) < 1 + TIMED and (len(seconds) < 2 or sum(seconds) < ENOUGH):
        began = now(device)
        worker = threading.Thread(target=finish, args=(latents,), name="grounded-trying")
        worker.start()
        latents = next(chunks).latents[0]
        worker.join()
        seconds.append(now(device) - began)
    frames = writer.frames - before
    middle = statistics.median(seconds[1:])
    # At the ends of a film one of the two works alone.
    pace = Pace(frames / len(seconds) / middle, middle / 2)
    bits = (writer.path.stat().st_size - size) * 8 / (frames * pixels)
    return Trial(pace, bits, frames)
