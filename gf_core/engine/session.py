"""A session turns a plan into a film: what the Take holds of it, preparation, one `Shoot`, the report.

    text -> [ cue -> noise -> denoise ] per chunk -> queue -> worker: save, decode, encode, journal

Everything that can fail for want of settings or words is tried before the run's folder is made.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..config import MemorySpec, SampleSpec, VideoSpec
from ..errors import GroundedError
from ..sampling.sampler import Sampler
from ..timeline.plan import Plan
from .adopt import take_over
from .budget import bundle_cost
from .disk_cost import STATES, disk_cost
from .events import Event, Finished
from .failures import in_words
from .meter import Meter
from .rejoin import state_names
from .relief import Relief
from .report import make_report, reuse_report
from .reuse import Reuse, find_reuse
from .settings import FilmSpec, RunSpec, bundle_device, bundle_dtype, make_ready
from .shoot import Emit, Job, Shoot
from .snapshots import StateStore
from .stepping import iterate
from .take import RunWriter, Take
from .telling import film_frames, reused, segment_done, started, whole_segments

if TYPE_CHECKING:
    from ..checkpoints.bundle import ModelBundle

log = logging.getLogger("grounded")


class Session:
    """One render of a plan into a Take. Use it once.

    What the Take holds of the film is used: a run that was stopped is gone on with, the chunks in front of a change
    are taken over into a new run, and a film that is finished is returned as it is.

    Args:
        bundle: model, text encoder, codec and what the checkpoint wants.
        plan: made with the timing of the same model (`RunSpec.check` says what must agree).
        take: open; the session does not close it.
        memory, sample, video: None takes the bundle's.
        film: how the film is encoded.
        timeline: the storyboard's text, kept in the run.
        start_frames: pictures [t H W 3] in 0..1, t = 1 + 4 n, of the film's size, that the film starts from. They
            become its first pictures, so that it is 4 pictures longer per latent frame of theirs.
        until: stop after this segment, counted from 1 as in the storyboard; None or 0 makes the whole film.
        state_budget: bytes of kept states that may lie in the Take.

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
        until: int | None = None,
        state_budget: int = STATES,
    ) -> None:
        self.spec = RunSpec(
            bundle,
            plan,
            memory or bundle.memory,
            sample or bundle.sample,
            video or bundle.video,
            film or FilmSpec(),
            start_frames,
        )
        self.spec.check()
        size = (self.spec.video.height, self.spec.video.width, 3)
        if start_frames is not None and start_frames.shape[1:] != size:
            raise GroundedError(
                f"the start image is {list(start_frames.shape)}, the film's pictures are {list(size)}",
                "resize the image to the film's size",
            )
        self.take, self.timeline = take, timeline
        self._stop = chunks_until(plan, until)
        self._state_budget = state_budget
        self._cancel = threading.Event()
        self._begun = False

    def run(self) -> Iterator[Event]:
        """Render, as a generator of events: nothing but decoding goes on between one `next` and the next.

        Closing the generator breaks off at once: nothing that is sampled is lost, but pictures that are not in the film
        yet are left to the next run. Errors come out of `next`.
        """
        return iterate(self.play, "grounded-sampling")

    def cancel(self) -> None:
        """Call the network no more; what is sampled is still put into the film. From any thread, at any time."""
        self._cancel.set()

    def play(self, emit: Emit) -> None:
        """Render in the calling thread, giving each event to `emit`; an exception of `emit` breaks off at once.

        Raises:
            GroundedError children: what went wrong, in words. The film up to the last `ChunkDone` stays and plays.
        """
        if self._begun:
            raise GroundedError("a session runs once", "make a new Session for another render")
        self._begun = True
        meter, spec = Meter(), self.spec
        settings = spec.describe()
        with meter.stage("looking"):
            reuse = find_reuse(self.take.folder, settings, spec.plan.chunk_keys[: self._stop])
        if reuse.finished:
            self._tell_finished(reuse, settings, meter, emit)
            return
        relief = Relief()
        embeds, start = self._prepare(meter, reuse, relief)
        cost = bundle_cost(spec.bundle)
        film = disk_cost(spec.plan, cost, spec.memory, spec.video, upscale=spec.film.upscale).needed
        store = StateStore(self.take.states, state_names(spec), self._state_budget, film)
        job = Job(spec, self._stop, reuse, store, embeds, start, relief)
        with contextlib.ExitStack() as stack, in_words("preparing the memory"):
            if spec.bundle.done is not None:
                stack.callback(spec.bundle.done)
            run = self._open_run(reuse, settings)
            stack.callback(run.close)
            sampler = self._make_sampler() if embeds else None
            shoot = Shoot(job, run, sampler, meter, emit, self._cancel)
            stack.callback(shoot.close)
            shoot.render()
            cancelled = self._cancel.is_set()
            anchors = [kept.record["anchor"] for kept in reuse.chunks if kept.record["anchor"]]
            anchors += [asdict(entry) for entry in sampler.director.log] if sampler is not None else []
            told = reuse_report(reused(spec, reuse), shoot.rejoined)
            report = make_report(settings, spec.plan, meter, shoot.frames, cancelled, anchors, told)
            report["relief"] = relief.told
            run.commit({"kind": "end", "frames": shoot.frames, "cancelled": cancelled})
            run.save_report(report)
        emit(Finished(run.run.film, shoot.frames, shoot.frames / spec.plan.timing.fps, cancelled, report))

    def _open_run(self, reuse: Reuse, settings: dict[str, Any]) -> RunWriter:
        """The run to write to, with everything in it that is taken over."""
        if reuse.goes_on and reuse.film is not None:
            run = RunWriter.resume(reuse.film)
        else:
            run = self.take.begin(self.timeline, settings)
        try:
            take_over(run, reuse)
        except BaseException:
            run.close()
            raise
        return run

    def _tell_finished(self, reuse: Reuse, settings: dict[str, Any], meter: Meter, emit: Emit) -> None:
        """The events of a film that lies finished in the Take; nothing is written."""
        spec, run = self.spec, reuse.film
        assert run is not None  # reuse.finished says so
        emit(started(spec, run, self._stop))
        emit(reused(spec, reuse))
        for number in range(whole_segments(spec, self._stop)):
            emit(segment_done(spec, number, run.film))
        frames = film_frames(spec, self._stop)
        anchors = [kept.record["anchor"] for kept in reuse.chunks if kept.record["anchor"]]
        told = reuse_report(reused(spec, reuse), [])
        report = make_report(settings, spec.plan, meter, frames, False, anchors, told)
        emit(Finished(run.film, frames, frames / spec.plan.timing.fps, False, report))

    @torch.no_grad()
    def _prepare(self, meter: Meter, reuse: Reuse, relief: Relief) -> tuple[list[Tensor], Tensor | None]:
        """Prompt embeddings [1 rows c] per segment and the start latents [1 f c h w], where the model is.

        No embeddings when nothing is to be sampled, no latents when the first chunk is there.
        """
        if len(reuse.chunks) == self._stop:
            return [], None
        bundle, segments = self.spec.bundle, self.spec.plan.segments
        device, dtype = bundle_device(bundle), bundle_dtype(bundle)
        with meter.stage("text"), in_words("encoding the prompts"):
            prompts = list(dict.fromkeys(segment.prompt for segment in segments))

            def encode() -> dict[str, Tensor]:
                return dict(zip(prompts, bundle.text.encode(prompts)))

            rows = relief.retried("text", "encoding the prompts", encode, encode)
            embeds = {prompt: row[None].to(device, dtype) for prompt, row in rows.items()}
        start = None
        if self.spec.start_frames is not None and not reuse.chunks:
            with meter.stage("start image"), in_words("encoding the start image"):
                frames = self.spec.start_frames

                def lead() -> Tensor:
                    return bundle.codec.encode(frames)[None].to(device, dtype)

                start = relief.retried("start image", "encoding the start image", lead, lead)
        return [embeds[segment.prompt] for segment in segments], start

    def _make_sampler(self) -> Sampler:
        spec = self.spec
        make_ready(spec, with_memory=True)
        with torch.no_grad():
            return spec.bundle.sampler(spec.memory, spec.sample, spec.video)


def chunks_until(plan: Plan, until: int | None) -> int:
    """Chunks of `plan` up to the end of segment `until` of the storyboard (from 1, muted ones counted); all for 0.

    Raises:
        GroundedError: there is nothing up to that segment.
    """
    if not until:
        return plan.chunks
    inside = [segment for segment in plan.segments if segment.index < until]
    if until > plan.segments[-1].index + 1:
        log.info("stop after segment %d: the film ends with segment %d", until, plan.segments[-1].index + 1)
    if not inside:
        raise GroundedError(
            f"the film cannot stop after segment {until}: nothing comes up to there",
            f"stop after segment {plan.segments[0].index + 1} or a later one",
        )
    return inside[-1].first_chunk + inside[-1].chunks
