"""A session turns a plan into a film: preparation, one `Shoot`, the report.

    text -> [ cue -> noise -> denoise ] per chunk -> queue -> worker: save, decode, encode, journal

Everything that can fail for want of settings or words is tried before the run's folder is made.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..config import MemorySpec, SampleSpec, VideoSpec
from ..errors import GroundedError
from ..sampling.rollout import Rollout
from ..timeline.plan import Plan
from .events import Event, Finished
from .failures import in_words
from .meter import Meter
from .report import make_report
from .settings import FilmSpec, RunSpec, bundle_device, bundle_dtype, make_ready
from .shoot import Emit, Shoot
from .stepping import iterate
from .take import Take

if TYPE_CHECKING:
    from ..checkpoints.bundle import ModelBundle


class Session:
    """One render of a plan into a new run of a Take. Use it once.

    Args:
        bundle: model, text encoder, codec and what the checkpoint wants.
        plan: made with the timing of the same model (`RunSpec.check` says what must agree).
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
        self.spec = RunSpec(
            bundle,
            plan,
            memory or bundle.memory,
            sample or bundle.sample,
            video or bundle.video,
            film or FilmSpec(),
        )
        self.spec.check()
        size = (self.spec.video.height, self.spec.video.width, 3)
        if start_frames is not None and start_frames.shape[1:] != size:
            raise GroundedError(
                f"the start image is {list(start_frames.shape)}, the film's pictures are {list(size)}",
                "resize the image to the film's size",
            )
        self.take, self.timeline = take, timeline
        self._start_frames = start_frames
        self._cancel = threading.Event()
        self._begun = False

    def run(self) -> Iterator[Event]:
        """Render, as a generator of events: nothing but decoding goes on between one `next` and the next.

        Closing the generator stops like `cancel`, without the last events. Errors come out of `next`.
        """
        return iterate(self.play, "grounded-sampling")

    def cancel(self) -> None:
        """Stop at the next denoising step; what is sampled is still written. From any thread, at any time."""
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
        settings, plan = self.spec.describe(), self.spec.plan
        with contextlib.ExitStack() as stack, in_words("preparing the memory"):
            if self.spec.bundle.done is not None:
                stack.callback(self.spec.bundle.done)
            run = self.take.begin(self.timeline, settings)
            stack.callback(run.close)
            make_ready(self.spec, with_memory=True)
            rollout = self._make_rollout()
            shoot = Shoot(self.spec, run, rollout, embeds, start, meter, emit, self._cancel)
            stack.callback(shoot.close)
            shoot.render()
            cancelled, anchors = self._cancel.is_set(), [asdict(entry) for entry in rollout.log]
            report = make_report(settings, plan, meter, shoot.frames, cancelled, anchors)
            run.commit({"kind": "end", "frames": shoot.frames, "cancelled": cancelled})
            run.save_report(report)
        emit(Finished(run.run.film, shoot.frames, shoot.frames / plan.timing.fps, cancelled, report))

    @torch.no_grad()
    def _prepare(self, meter: Meter) -> tuple[list[Tensor], Tensor | None]:
        """Prompt embeddings [1 rows c] per segment and the start latents [1 f c h w], where the model is."""
        bundle, segments = self.spec.bundle, self.spec.plan.segments
        device, dtype = bundle_device(bundle), bundle_dtype(bundle)
        with meter.stage("text"), in_words("encoding the prompts"):
            prompts = list(dict.fromkeys(segment.prompt for segment in segments))
            rows = dict(zip(prompts, bundle.text.encode(prompts)))
            embeds = {prompt: row[None].to(device, dtype) for prompt, row in rows.items()}
        start = None
        if self._start_frames is not None:
            with meter.stage("start image"), in_words("encoding the start image"):
                start = bundle.codec.encode(self._start_frames)[None].to(device, dtype)
        return [embeds[segment.prompt] for segment in segments], start

    def _make_rollout(self) -> Rollout:
        spec, (height, width) = self.spec, self.spec.latent_size
        bundle = spec.bundle
        return Rollout(
            bundle.model,
            bundle.spec,
            spec.memory,
            spec.sample,
            latent_height=height,
            latent_width=width,
            device=bundle_device(bundle),
            dtype=bundle_dtype(bundle),
            kernel=bundle.kernel,
        )
