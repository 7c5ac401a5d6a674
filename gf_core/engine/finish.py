"""From clean latents to a committed chunk: store, decode, encode, journal. Runs in the worker thread."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..video.writer import FilmWriter
from .disk import disk_error
from .failures import in_words
from .frames import preview, to_uint8
from .take import RunWriter

if TYPE_CHECKING:
    from ..vae.base import StreamDecoder


@dataclass(frozen=True)
class SampledChunk:
    """A chunk as it leaves the sampler."""

    index: int
    """Chunk of the film, from 0."""
    segment: int
    """Number of its segment in the plan."""
    key: str
    """Names everything that made it."""
    latents: Tensor
    """Clean latents [f c h w]; those of a start image come first in chunk 0."""
    anchor: dict | None
    """The memory's last evaluation for this chunk."""


@dataclass(frozen=True)
class CommittedChunk:
    """A chunk that is on disk."""

    index: int
    segment: int
    frames: int
    """Pixel frames in the film, this chunk's included."""
    pictures: np.ndarray
    """Its preview, uint8 [t h w 3]."""
    anchor: dict | None


class Finisher:
    """Commits chunks in film order: latents, then film, then journal line.

    `seconds` counts the time spent in each stage; it may be read while the worker runs.
    """

    def __init__(self, run: RunWriter, decoder: StreamDecoder, film: FilmWriter) -> None:
        self._run, self._decoder, self._film = run, decoder, film
        self._stream: torch.cuda.Stream | None = None
        self.frames = 0
        self.seconds = {"decode": 0.0, "encode": 0.0, "save": 0.0}

    @torch.no_grad()
    def __call__(self, chunk: SampledChunk) -> CommittedChunk:
        """Commit one chunk. Raises GroundedError children in words for a full disk or memory, and others as met."""
        with in_words(f"finishing chunk {chunk.index}"), self._beside_the_sampler(chunk.latents):
            start = time.perf_counter()
            digest = self._run.save_latents(chunk.index, chunk.latents)
            saved = time.perf_counter()
            pictures = to_uint8(self._decoder.decode(chunk.latents))
            decoded = time.perf_counter()
            try:
                self._film.write(pictures)
            except OSError as error:
                raise disk_error(
                    error, self._run.run.film, f"writing chunk {chunk.index} to the film"
                ) from error
            encoded = time.perf_counter()
            record = {"kind": "chunk", "index": chunk.index, "segment": chunk.segment, "key": chunk.key}
            placed = {"first_frame": self.frames, "frames": len(pictures), "latents": digest}
            self._run.commit({**record, **placed, "anchor": chunk.anchor})
            self.frames += len(pictures)
        self.seconds["save"] += saved - start + time.perf_counter() - encoded
        self.seconds["decode"] += decoded - saved
        self.seconds["encode"] += encoded - decoded
        return CommittedChunk(chunk.index, chunk.segment, self.frames, preview(pictures), chunk.anchor)

    def _beside_the_sampler(self, latents: Tensor) -> contextlib.AbstractContextManager:
        """A CUDA stream of our own, else decoding would queue up behind the next chunk's denoising.

        The session hands over latents that are ready, and this call ends with a copy to the host, so neither side
        needs an event.
        """
        if not latents.is_cuda:
            return contextlib.nullcontext()
        if self._stream is None:
            self._stream = torch.cuda.Stream(latents.device)
        return torch.cuda.stream(self._stream)
