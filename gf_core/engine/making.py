"""A film with everything settled before its first step: plan, estimate, check; and its making in a Take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..config import MemorySpec, SampleSpec, VideoSpec
from ..timeline import Plan, Storyboard, Timing, make_plan, parse
from .budget import Budget, bundle_cost, check_budget, estimate
from .calibrate import expected_speed
from .events import Event, Finished, Started
from .report import compared
from .session import Session
from .settings import FilmSpec, film_key, free_memory
from .speeds import remember_speed, speed_key
from .start_image import open_start_image
from .take import Run, Take

if TYPE_CHECKING:
    from ..checkpoints.bundle import ModelBundle

MEASURABLE_CHUNKS = 3
"""A shorter film says nothing about speed."""
WORTH_TRYING_CHUNKS = 8
"""A shorter film is made sooner than its speed is tried."""


def plan_film(
    bundle: ModelBundle,
    board: Storyboard,
    *,
    memory: MemorySpec | None = None,
    sample: SampleSpec | None = None,
    video: VideoSpec | None = None,
    start_frames: torch.Tensor | None = None,
) -> Plan:
    """The plan of a storyboard for a model; `video.fps` sets the speed, else the storyboard's `@fps`."""
    memory, sample = memory or bundle.memory, sample or bundle.sample
    video = video or replace(bundle.video, fps=board.fps)
    timing = Timing(video.fps, memory.chunk, bundle.codec.time_stride, sample.first_chunk_frames)
    return make_plan(board, timing, film_key(bundle, memory, sample, video, start_frames))


@dataclass(frozen=True)
class Making:
    """A film with everything settled that is known before its first step."""

    bundle: ModelBundle
    text: str
    """The storyboard's."""
    plan: Plan
    memory: MemorySpec
    sample: SampleSpec
    video: VideoSpec
    film: FilmSpec
    start: torch.Tensor | None
    """The start image, [1 H W 3] of the film's size."""

    def session(self, take: Take, until: int | None = None) -> Session:
        """A session that makes it in `take`, up to segment `until`."""
        return Session(
            self.bundle,
            self.plan,
            take,
            memory=self.memory,
            sample=self.sample,
            video=self.video,
            film=self.film,
            timeline=self.text,
            start_frames=self.start,
            until=until,
        )

    def retold(self, text: str) -> Making:
        """The same with another storyboard of the same speed.

        Raises:
            StoryboardError: the text cannot be read.
        """
        specs = {"memory": self.memory, "sample": self.sample, "video": self.video}
        return replace(
            self, text=text, plan=plan_film(self.bundle, parse(text), start_frames=self.start, **specs)
        )


def settle(
    bundle: ModelBundle,
    text: str,
    *,
    memory: MemorySpec | None = None,
    sample: SampleSpec | None = None,
    video: VideoSpec | None = None,
    film: FilmSpec | None = None,
    start_image: str | Path | None = None,
) -> Making:
    """Read the storyboard and put what the checkpoint wants where nothing else is asked for; see `render_film`.

    Raises:
        GroundedError children: the storyboard, the start image or the settings cannot be used.
    """
    board = parse(text)
    memory, sample = memory or bundle.memory, sample or bundle.sample
    video = video or replace(bundle.video, fps=board.fps)
    start = None if start_image is None else open_start_image(start_image, video)
    plan = plan_film(bundle, board, memory=memory, sample=sample, video=video, start_frames=start)
    return Making(bundle, text, plan, memory, sample, video, film or FilmSpec(), start)


def preflight(making: Making) -> Budget:
    """The estimate; a speed that is not known is tried where the film is long enough for that."""
    bundle, plan = making.bundle, making.plan
    cost = bundle_cost(bundle)
    budget = estimate(plan, cost, making.memory, making.sample, making.video, making.film.upscale)
    if budget.fps is None and plan.chunks >= WORTH_TRYING_CHUNKS:
        fps = expected_speed(bundle, cost, making.memory, making.sample, making.video, making.film)
        budget = replace(budget, fps=fps)
    return budget


def check(making: Making, budget: Budget, folder: Path) -> None:
    """Refuse a film that cannot fit.

    Raises:
        ResourceError: with the change that would.
    """
    free = free_memory(making.bundle)
    check_budget(
        budget, bundle_cost(making.bundle), making.memory, making.video, free_memory=free, folder=folder
    )


def make(
    making: Making,
    take: Take,
    budget: Budget,
    listener: Callable[[Event], None] | None = None,
    until: int | None = None,
) -> Finished:
    """Render into `take`; the report compares `budget` with what it took, and the speed is kept for the next one."""
    started: list[Started] = []
    finished: list[Finished] = []

    def listen(event: Event) -> None:
        if isinstance(event, Started):
            started.append(event)
        elif isinstance(event, Finished):
            finished.append(event)
        if listener is not None:
            listener(event)

    making.session(take, until).play(listen)
    end = finished[0]
    end.report["estimate"] = compared(budget, end.report, Run(end.path.parent))
    if started[0].chunks - end.report["reuse"]["chunks"] >= MEASURABLE_CHUNKS:
        cost = bundle_cost(making.bundle)
        key = speed_key(cost.device, cost.fingerprint, making.memory, making.sample, making.video)
        remember_speed(key, end.report["speed"]["fps"])
    return end
