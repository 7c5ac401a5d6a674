"""A film with everything settled before its first step: plan, estimate, check; and its making in a Take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..config import MemorySpec, SampleSpec, VideoSpec
from ..timeline import Plan, Storyboard, Timing, make_plan, parse
from .budget import Budget, ModelCost, bundle_cost, check_budget, estimate
from .calibrate import try_out
from .events import Event, Finished
from .measured import Pace, recall_pace, remember_bits, remember_pace, size_key, speed_key
from .report import compared
from .reuse import find_reuse
from .session import Session, chunks_until
from .settings import FilmSpec, RunSpec, film_key, free_memory
from .start_image import open_start_image
from .take import Run, Take, save_report
from .tidy import FILMS, tidy

if TYPE_CHECKING:
    from ..checkpoints.bundle import ModelBundle

MEASURABLE_CHUNKS = 3
"""A shorter film says nothing about speed."""
KEPT_FILMS = 3
"""Newest runs of a Take whose films are never removed by themselves."""
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

    @property
    def run_spec(self) -> RunSpec:
        """What decides its pixels."""
        return RunSpec(self.bundle, self.plan, self.memory, self.sample, self.video, self.film, self.start)

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


def preflight(making: Making, folder: Path, until: int | None = None, *, sheet: bool = False) -> Budget:
    """The estimate of the film up to segment `until`, less what its Take in `folder` holds of it.

    Speed and size that no film has told yet are tried, where the film is long enough for that.
    """
    stop = chunks_until(making.plan, until)
    spec = making.run_spec
    spec.check()
    reuse = find_reuse(folder, spec.describe(), spec.plan.chunk_keys[:stop])
    cost = bundle_cost(making.bundle)

    def told() -> Budget:
        return estimate(
            making.plan,
            cost,
            making.memory,
            making.sample,
            making.video,
            making.film,
            stop=stop,
            reuse=reuse,
            sheet=sheet,
        )

    budget = told()
    if budget.pace is None and stop - budget.kept >= WORTH_TRYING_CHUNKS:
        prompt = making.plan.segments[0].prompt if cost.decoder == "builtin" else None  # of one small family
        trial = try_out(making.bundle, prompt, making.memory, making.sample, making.video, making.film)
        if trial is not None:
            remember_pace(pace_name(making, cost), trial.pace)
            if trial.bits is not None and not budget.disk.known:
                remember_bits(bits_name(making, cost), trial.bits, trial.frames)
            budget = told()
    return budget


def pace_name(making: Making, cost: ModelCost) -> str:
    """Where the pace of such films is remembered."""
    return speed_key(cost.device, cost.fingerprint, making.memory, making.sample, making.video)


def bits_name(making: Making, cost: ModelCost) -> str:
    """Where the size of such films is remembered."""
    film = making.film
    return size_key(cost.fingerprint, making.video, film.codec, film.quality, film.upscale)


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
    making: Making, session: Session, budget: Budget, listener: Callable[[Event], None] | None = None
) -> Finished:
    """Render; the report compares `budget` with what it took, and speed and size are kept for the next estimate.

    Raises:
        GroundedError children: what went wrong, in words.
    """
    finished: list[Finished] = []

    def listen(event: Event) -> None:
        if isinstance(event, Finished):
            finished.append(event)
        if listener is not None:
            listener(event)

    session.play(listen)
    end = finished[0]
    run = Run(end.path.parent)
    end.report["estimate"] = compared(budget, end.report, run)
    end.report["notes"] = list(making.bundle.notes)
    if end.report["seconds"]["first chunk"]:  # else nothing was made, and what lies there tells of the making
        save_report(run, end.report)
    learn(making, end)
    tidy(session.take, keep=KEPT_FILMS, limit=FILMS, using=run.folder.name)
    return end


def learn(making: Making, end: Finished) -> None:
    """Remember how fast the film was made and how large it is; of a part of one too little can be told."""
    report, cost = end.report, bundle_cost(making.bundle)
    kept = report["reuse"]["frames"]
    fresh = end.frames - kept
    if fresh < MEASURABLE_CHUNKS * making.plan.timing.chunk_pictures:
        return
    fps = report["speed"]["fps"]
    before = recall_pace(pace_name(making, cost))
    extra = report["seconds"]["total"] - fresh / fps if fps else 0.0
    if kept or end.cancelled:  # what joining and stopping took says nothing about the next film's ends
        extra = before.extra if before else 0.0
    remember_pace(pace_name(making, cost), Pace(fps, extra))
    pixels = making.video.width * making.video.height * making.film.upscale**2
    remember_bits(bits_name(making, cost), end.path.stat().st_size * 8 / (end.frames * pixels), end.frames)
