"""A session turns a plan into a film: it owns the order of things, the events, and the cleaning up.

    text -> [ cue -> noise -> denoise ] per chunk -> queue -> worker: save, decode, encode, journal

Everything that can fail for want of settings, words or space is tried before the first step. While chunk n is being
denoised, chunk n-1 is decoded and encoded in one worker thread; at most four chunks exist at a time, so memory does not
depend on the length of the film.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..config import MemorySpec, SampleSpec, VideoSpec
from ..errors import GroundedError
from ..sampling.noise import chunk_noise
from ..sampling.rollout import Rollout
from ..timeline.plan import Plan, PlannedSegment
from ..video.writer import FilmWriter
from .cues import give_cue
from .disk import disk_error, sync_folder
from .events import ChunkDone, Event, Finished, Preview, SegmentDone, Started, StepDone
from .failures import in_words
from .finish import CommittedChunk, Finisher, SampledChunk
from .meter import Meter
from .pipeline import Worker
from .report import make_report
from .settings import FilmSpec, bundle_device, bundle_dtype, check_settings, describe
from .stepping import iterate
from .take import RunWriter, Take

if TYPE_CHECKING:
    from ..checkpoints.bundle import ModelBundle

Emit = Callable[[Event], None]


class _Cancelled(Exception):
    """Unwinds the chunk that was being denoised when `cancel` was called."""


class Session:
    """One render of a plan into a new run of a Take. Use it once.

    Args:
        bundle: model, text encoder, codec and what the checkpoint wants.
        plan: made with the timing of the same model (`settings.check_settings` says what must agree).
        take: open; the session does not close it.
        memory, sample, video: None takes the bundle's.
        film: how the film is encoded.
        timeline: the storyboard's text, kept in the run.
        start_frames: pictures [t H W 3] in 0..1, t = 1 + 4 n, of the film's size, that the film starts from. They
            become its first pictures, so that it is 4 pictures longer per latent frame of theirs.

    Raises:
        GroundedError children, in words, when the settings do not fit together.
    """

    def __init__(
        self,
        bundle: ModelBundle,
        plan: Plan,
        take: Take,
        *,
        memory: MemorySpec | None = None,
        sample: SampleSpec | None = None,
        video: VideoSpec | None = None,
        film: FilmSpec | None = None,
        timeline: str = "",
        start_frames: Tensor | None = None,
    ) -> None:
        self.bundle, self.plan, self.take = bundle, plan, take
        self.memory, self.sample = memory or bundle.memory, sample or bundle.sample
        self.video, self.film = video or bundle.video, film or FilmSpec()
        self.timeline = timeline
        self._start_frames = start_frames
        check_settings(bundle, plan, self.memory, self.sample, self.video)
        if start_frames is not None and start_frames.shape[1:] != (self.video.height, self.video.width, 3):
            raise GroundedError(
                f"the start image is {list(start_frames.shape)}, the film {self.video.width}x{self.video.height}",
                "resize the image to the film's size",
            )
        self._device, self._dtype = bundle_device(bundle), bundle_dtype(bundle)
        self._cancel = threading.Event()
        self._begun = False

    def run(self) -> Iterator[Event]:
        """Render, as a generator of events: nothing but decoding goes on between one `next` and the next.

        Closing the generator stops like `cancel`, without the last events. Errors come out of `next`.
        """
        return iterate(self.play, "grounded-sampling")

    def cancel(self) -> None:
        """Stop at the next denoising step; what is sampled is still written. From any thread, any number of times."""
        self._cancel.set()

    def play(self, emit: Emit) -> None:
        """Render in the calling thread, giving each event to `emit`; an exception of `emit` stops the render.

        Raises:
            GroundedError children: what went wrong, in words. The film up to the last `ChunkDone` stays and plays.
        """
        if self._begun:
            raise GroundedError("a session runs once", "make a new Session for another render")
        self._begun = True
        meter = Meter()
        embeds, start = self._prepare(meter)
        settings = describe(self.bundle, self.plan, self.memory, self.sample, self.video, self.film)
        with contextlib.ExitStack() as stack, in_words("rendering"):
            run = self.take.begin(self.timeline, settings)
            stack.callback(run.close)
            rollout = self._make_rollout()
            shoot = _Shoot(self, run, rollout, embeds, start, meter, emit)
            stack.callback(shoot.close)
            shoot.render()
            anchors = [asdict(evaluation) for evaluation in rollout.log]
            report = make_report(settings, self.plan, meter, shoot.frames, self._cancel.is_set(), anchors)
            run.commit({"kind": "end", "frames": shoot.frames, "cancelled": self._cancel.is_set()})
            run.save_report(report)
        seconds = shoot.frames / self.plan.timing.fps
        emit(Finished(run.run.film, shoot.frames, seconds, self._cancel.is_set(), report))

    @torch.no_grad()
    def _prepare(self, meter: Meter) -> tuple[list[Tensor], Tensor | None]:
        """Prompt embeddings [1 rows c] per segment and the start latents [1 f c h w], on the model's device."""
        with meter.stage("text"), in_words("encoding the prompts"):
            prompts = list(dict.fromkeys(segment.prompt for segment in self.plan.segments))
            rows = dict(zip(prompts, self.bundle.text.encode(prompts)))
            embeds = {prompt: row[None].to(self._device, self._dtype) for prompt, row in rows.items()}
        if self._start_frames is None:
            return [embeds[segment.prompt] for segment in self.plan.segments], None
        with meter.stage("start image"), in_words("encoding the start image"):
            latents = self.bundle.codec.encode(self._start_frames)[None].to(self._device, self._dtype)
        return [embeds[segment.prompt] for segment in self.plan.segments], latents

    def _make_rollout(self) -> Rollout:
        stride = self.bundle.codec.spatial_stride
        height, width = self.video.height // stride, self.video.width // stride
        return Rollout(
            self.bundle.model,
            self.bundle.spec,
            self.memory,
            self.sample,
            latent_height=height,
            latent_width=width,
        )


class _Shoot:
    """The moving parts of one `play`: rollout, worker and film, and the events between them."""

    def __init__(
        self,
        session: Session,
        run: RunWriter,
        rollout: Rollout,
        embeds: list[Tensor],
        start: Tensor | None,
        meter: Meter,
        emit: Emit,
    ) -> None:
        self._session, self._plan, self._run = session, session.plan, run
        self._rollout, self._embeds, self._start, self._meter, self._listener = (
            rollout,
            embeds,
            start,
            meter,
            emit,
        )
        self.frames = 0
        self.lead = 0 if start is None else start.shape[1] * self._plan.timing.time_stride
        decoder = session.bundle.codec.decoder()
        self._film = self._open_film()
        self._finisher = Finisher(run, decoder, self._film)
        self._worker = Worker(self._finisher, "grounded-finishing")

    def _open_film(self) -> FilmWriter:
        video, film, path = self._session.video, self._session.film, self._run.run.film
        try:
            writer = FilmWriter(
                path, video.width, video.height, video.fps, film.codec, film.quality, film.upscale
            )
            sync_folder(path.parent)
            return writer
        except OSError as error:
            raise disk_error(error, path, "starting the film") from error

    def render(self) -> None:
        """Sample every chunk and see it committed; returns early after `cancel`."""
        plan, frames = self._plan, self._plan.frames + self.lead
        folder, film = self._run.run.folder, self._run.run.film
        self._emit(Started(folder, film, plan.chunks, frames, frames / plan.timing.fps, len(plan.segments)))
        self._meter.start_sampling()
        with contextlib.suppress(_Cancelled):
            for number, segment in enumerate(plan.segments):
                for chunk in range(segment.chunks):
                    self._hand_over(self._sample(number, segment, chunk))
        with self._meter.stage("waiting"):
            for committed in self._worker.finish():
                self._tell(committed)
        self._meter.seconds.update(self._finisher.seconds)

    @torch.no_grad()
    def _sample(self, number: int, segment: PlannedSegment, chunk: int) -> SampledChunk:
        """Denoise chunk `chunk` (from 0) of segment `number`."""
        index, seen = segment.first_chunk + chunk, len(self._rollout.log)
        with self._meter.stage("sampling"), in_words(f"sampling chunk {index}"):
            self._check_cancel()
            give_cue(self._rollout, self._plan.segments, self._embeds, number, chunk)
            lead = self._prefill() if index == 0 else None
            shape = self._shape(index)

            def noise(step: int) -> Tensor:
                return chunk_noise(segment.seed, chunk, step, shape)

            def on_step(step: int, steps: int) -> None:
                self._check_cancel()
                self._meter.look()
                self._emit(StepDone(index, self._plan.chunks, number, step + 1, steps))
                self._drain()

            latents = self._rollout.denoise_chunk(noise(0), noise, on_step)[0]
            if latents.is_cuda:
                torch.cuda.current_stream(latents.device).synchronize()
        anchor = asdict(self._rollout.log[-1]) if len(self._rollout.log) > seen else None
        whole = latents if lead is None else torch.cat([lead[0], latents])
        return SampledChunk(index, number, segment.chunk_key(chunk), whole, anchor)

    def _prefill(self) -> Tensor | None:
        """Commit the start image to the memory."""
        if self._start is not None:
            self._rollout.prefill(self._start)
        return self._start

    def _shape(self, index: int) -> tuple[int, ...]:
        """Latent shape [b f c h w] of chunk `index`."""
        session, stride = self._session, self._session.bundle.codec.spatial_stride
        frames = session.sample.first_chunk_frames if index == 0 else None
        size = (session.video.height // stride, session.video.width // stride)
        return (1, frames or session.memory.chunk, session.bundle.spec.in_dim, *size)

    def _emit(self, event: Event) -> None:
        """Hand an event over; the listener's time is its own stage, or slow screens would look like slow sampling."""
        with self._meter.stage("listener"):
            self._listener(event)

    def _check_cancel(self) -> None:
        if self._session._cancel.is_set():
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

    def _tell(self, done: CommittedChunk) -> None:
        """The events of a committed chunk."""
        plan, segment, meter = self._plan, self._plan.segments[done.segment], self._meter
        self.frames, total = done.frames, plan.frames + self.lead
        meter.committed(done.frames)
        self._emit(
            ChunkDone(
                index=done.index,
                total=plan.chunks,
                segment=done.segment,
                frames=done.frames,
                total_frames=total,
                film_seconds=done.frames / plan.timing.fps,
                fps=meter.fps,
                seconds_left=meter.seconds_left(total - done.frames),
                anchor=done.anchor,
            )
        )
        self._emit(Preview(done.index, done.segment, done.pictures))
        if done.index == segment.first_chunk + segment.chunks - 1:
            first = segment.start_frame + (self.lead if segment.first_chunk else 0)
            frames = segment.frames + (0 if segment.first_chunk else self.lead)
            where = (done.segment, len(plan.segments), segment.verb, segment.prompt)
            self._emit(SegmentDone(*where, first, frames, self._run.run.film))

    def close(self) -> None:
        """Let the worker finish what is queued, and close the film."""
        self._worker.close()
        self._film.close()
