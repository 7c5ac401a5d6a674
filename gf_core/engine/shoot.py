"""The moving parts of one render: rollout, worker and film, and the events between them.

While chunk n is being denoised, chunk n-1 is decoded and encoded in one worker thread. At most four chunks exist at a
time, so memory does not depend on the length of the film.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import asdict

import torch
from torch import Tensor

from ..sampling.noise import chunk_noise
from ..sampling.rollout import Rollout
from ..timeline.plan import PlannedSegment
from ..video.writer import FilmWriter
from .cues import give_cue
from .disk import disk_error, sync_folder
from .events import ChunkDone, Event, Preview, SegmentDone, Started, StepDone
from .failures import in_words
from .finish import CommittedChunk, Finisher, SampledChunk
from .meter import Meter
from .pipeline import Worker
from .settings import RunSpec, make_ready
from .take import RunWriter

Emit = Callable[[Event], None]


class _Cancelled(Exception):
    """Unwinds the chunk that was being denoised when the render was cancelled."""


class Shoot:
    """Samples a plan chunk by chunk and tells what has happened. `close` must be called in the end.

    Args:
        run: where everything is written.
        rollout: fresh; its model is the bundle's.
        embeds: prompt embeddings [1 rows c], one per segment.
        start: latents [1 f c h w] that the film starts from.
        emit: gets the events, in the thread that calls `render`.
        cancel: once set, the next denoising step is the last.
    """

    def __init__(
        self,
        spec: RunSpec,
        run: RunWriter,
        rollout: Rollout,
        embeds: list[Tensor],
        start: Tensor | None,
        meter: Meter,
        emit: Emit,
        cancel: threading.Event,
    ) -> None:
        self._spec, self._plan, self._run = spec, spec.plan, run
        self._rollout, self._embeds, self._start = rollout, embeds, start
        self._meter, self._listener, self._cancel = meter, emit, cancel
        self.frames = 0
        """Pictures on disk, as far as told."""
        self._lead = 0 if start is None else start.shape[1] * spec.plan.timing.time_stride
        self._total = spec.plan.frames + self._lead
        decoder = spec.bundle.codec.decoder()
        self._film = self._open_film()
        self._finisher = Finisher(run, decoder, self._film)
        self._worker = Worker(self._finisher, "grounded-finishing")

    def _open_film(self) -> FilmWriter:
        video, film, path = self._spec.video, self._spec.film, self._run.run.film
        try:
            writer = FilmWriter(
                path, video.width, video.height, video.fps, film.codec, film.quality, film.upscale
            )
            sync_folder(path.parent)
        except OSError as error:
            raise disk_error(error, path, "starting the film") from error
        return writer

    def render(self) -> None:
        """Sample every chunk and see it committed; returns early when cancelled."""
        plan, folder, film = self._plan, self._run.run.folder, self._run.run.film
        seconds = self._total / plan.timing.fps
        self._emit(Started(folder, film, plan.chunks, self._total, seconds, len(plan.segments)))
        self._meter.start_sampling()
        with contextlib.suppress(_Cancelled):
            for number, segment in enumerate(plan.segments):
                for chunk in range(segment.chunks):
                    self._hand_over(self._sample(number, segment, chunk))
        with self._meter.stage("waiting"):
            for committed in self._worker.finish():
                self._tell(committed)
        self._meter.seconds.update(self._finisher.seconds)

    def close(self) -> None:
        """Let the worker finish what is queued, and close the film."""
        self._worker.close()
        self._film.close()

    @torch.no_grad()
    def _sample(self, number: int, segment: PlannedSegment, chunk: int) -> SampledChunk:
        """Denoise chunk `chunk` (from 0) of segment `number`."""
        index, seen = segment.first_chunk + chunk, len(self._rollout.log)
        shape = self._spec.latent_shape(index)

        def noise(step: int) -> Tensor:
            return chunk_noise(segment.seed, chunk, step, shape)

        def on_step(step: int, steps: int) -> None:
            self._check_cancel()
            self._meter.look()
            self._emit(StepDone(index, self._plan.chunks, number, step + 1, steps))
            self._drain()

        with self._meter.stage("sampling"), in_words(f"sampling chunk {index}"):
            self._check_cancel()
            make_ready(self._spec)
            give_cue(self._rollout, self._plan.segments, self._embeds, number, chunk)
            lead = self._start if index == 0 else None
            if lead is not None:
                self._rollout.prefill(lead)
            latents = self._rollout.denoise_chunk(noise(0), noise, on_step)
            if latents.is_cuda:  # the worker reads them on a stream of its own
                torch.cuda.current_stream(latents.device).synchronize()
        anchor = asdict(self._rollout.log[-1]) if len(self._rollout.log) > seen else None
        whole = latents[0] if lead is None else torch.cat([lead[0], latents[0]])
        return SampledChunk(index, number, segment.chunk_key(chunk), whole, anchor)

    def _check_cancel(self) -> None:
        if self._cancel.is_set():
            raise _Cancelled

    def _hand_over(self, chunk: SampledChunk) -> None:
        """Queue a chunk for the worker, telling what it finishes while there is no room."""
        with self._meter.stage("waiting"):
            while not self._worker.offer(chunk):
                self._drain()
        self._drain()

    def _drain(self) -> None:
        for committed in self._worker.results():
            self._tell(committed)

    def _emit(self, event: Event) -> None:
        """Hand an event over; the listener's time is a stage of its own, or a slow screen would look like slow work."""
        with self._meter.stage("listener"):
            self._listener(event)

    def _tell(self, done: CommittedChunk) -> None:
        """The events of a committed chunk."""
        plan, segment, meter = self._plan, self._plan.segments[done.segment], self._meter
        self.frames = done.frames
        meter.committed(done.frames)
        self._emit(
            ChunkDone(
                index=done.index,
                total=plan.chunks,
                segment=done.segment,
                frames=done.frames,
                total_frames=self._total,
                film_seconds=done.frames / plan.timing.fps,
                fps=meter.fps,
                seconds_left=meter.seconds_left(self._total - done.frames),
                anchor=done.anchor,
            )
        )
        self._emit(Preview(done.index, done.segment, done.pictures))
        if done.index == segment.first_chunk + segment.chunks - 1:
            self._emit(self._segment_done(done.segment, segment))

    def _segment_done(self, number: int, segment: PlannedSegment) -> SegmentDone:
        first = segment.first_chunk == 0
        return SegmentDone(
            segment=number,
            total=len(self._plan.segments),
            verb=segment.verb,
            prompt=segment.prompt,
            start_frame=segment.start_frame + (0 if first else self._lead),
            frames=segment.frames + (self._lead if first else 0),
            path=self._run.run.film,
        )
