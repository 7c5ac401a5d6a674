"""From a storyboard's text to a finished film in one call: what the command line does, and what tests drive."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..config import MemorySpec, SampleSpec, VideoSpec
from ..errors import TakeError
from ..timeline import Plan, Storyboard, Timing, make_plan, parse
from ..video import SheetRow, contact_sheet, pick_frames, place_film
from .budget import Budget, bundle_cost, check_budget, estimate
from .calibrate import expected_speed
from .disk import check_writable, disk_error, write_json
from .events import Event, Finished, Started
from .frames import preview
from .imprint import film_chapters, film_metadata
from .report import compared
from .session import Session
from .settings import FilmSpec, film_key, free_memory
from .speeds import remember_speed, speed_key
from .start_image import open_start_image
from .take import Run, Take

if TYPE_CHECKING:
    from ..checkpoints.bundle import ModelBundle

log = logging.getLogger("grounded")

SHEET_FRAMES = 6
"""Pictures per segment on the contact sheet."""
SHEET_SIDE = 640
"""Longest side of a picture kept for the sheet, in pixels."""
MEASURABLE_CHUNKS = 3
"""A shorter film says nothing about speed."""
WORTH_TRYING_CHUNKS = 8
"""A shorter film is made sooner than its speed is tried."""


@dataclass(frozen=True)
class FilmResult:
    """Where everything is."""

    path: Path
    """The finished film."""
    sheet: Path | None
    """Its contact sheet."""
    report_path: Path
    """The report beside it."""
    report: dict[str, Any]
    """What the run measured (`report.report_lines` makes text of it)."""
    run: Path
    """The run's folder in the Take: latents, journal, growing film."""


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


def render_film(
    bundle: ModelBundle,
    storyboard_text: str,
    out_path: str | Path,
    *,
    take_folder: str | Path | None = None,
    memory: MemorySpec | None = None,
    sample: SampleSpec | None = None,
    video: VideoSpec | None = None,
    film: FilmSpec | None = None,
    start_image: str | Path | None = None,
    until: int | None = None,
    sheet: bool = True,
    listener: Callable[[Event], None] | None = None,
    on_budget: Callable[[Budget], None] | None = None,
) -> FilmResult:
    """Parse, plan, check, render, and place film, contact sheet and report at `out_path`; nothing is overwritten.

    Args:
        out_path: the film. Where it is taken, `name-2`, ... is used; sheet and report wear the same name.
        take_folder: None keeps the Take beside the film, as `name.take`.
        memory, sample, video: None takes what the checkpoint wants, at the storyboard's `@fps`.
        until: stop after this segment of the storyboard, counted from 1; the next render into the Take goes on.
        sheet: draw the contact sheet.
        listener: gets every event; what it raises stops the render, and the film so far stays in the Take.
        on_budget: gets the estimate before anything is made.

    Raises:
        GroundedError children: the storyboard, the settings, the machine's limits, or a failure on the way, in words.
    """
    out_path, film = Path(out_path), film or FilmSpec()
    board = parse(storyboard_text)
    check_writable(out_path.parent)
    memory, sample = memory or bundle.memory, sample or bundle.sample
    video = video or replace(bundle.video, fps=board.fps)
    start = None if start_image is None else open_start_image(start_image, video)
    plan = plan_film(bundle, board, memory=memory, sample=sample, video=video, start_frames=start)
    folder = Path(take_folder) if take_folder is not None else out_path.with_suffix(".take")
    cost = bundle_cost(bundle)
    budget = estimate(plan, cost, memory, sample, video, film.upscale)
    if budget.fps is None and plan.chunks >= WORTH_TRYING_CHUNKS:
        budget = replace(budget, fps=expected_speed(bundle, cost, memory, sample, video, film))
    if on_budget is not None:
        on_budget(budget)
    check_budget(budget, cost, memory, video, free_memory=free_memory(bundle), folder=folder)
    started: list[Started] = []
    finished: list[Finished] = []

    def listen(event: Event) -> None:
        if isinstance(event, Started):
            started.append(event)
        elif isinstance(event, Finished):
            finished.append(event)
        if listener is not None:
            listener(event)

    with Take.open(folder) as take:
        session = Session(
            bundle,
            plan,
            take,
            memory=memory,
            sample=sample,
            video=video,
            film=film,
            timeline=storyboard_text,
            start_frames=start,
            until=until,
        )
        session.play(listen)
        report = finished[0].report
        report["estimate"] = compared(budget, report, Run(finished[0].path.parent))
        if started[0].chunks - report["reuse"]["chunks"] >= MEASURABLE_CHUNKS:
            key = speed_key(cost.device, cost.fingerprint, memory, sample, video)
            remember_speed(key, report["speed"]["fps"])
        lead = session.spec.lead * plan.timing.time_stride
        return _place(out_path, plan, lead, finished[0], sheet)


def _place(out_path: Path, plan: Plan, lead: int, end: Finished, sheet: bool) -> FilmResult:
    """The finished film with its metadata, the sheet and the report, under one name."""
    run = Run(end.path.parent)
    try:
        title = film_metadata(run, out_path.stem)
        path = place_film(end.path, out_path, metadata=title, chapters=film_chapters(run))
        sheet_path = _draw_sheet(path, plan, lead, end) if sheet else None
        report_path = path.with_name(f"{path.stem}_report.json")
        write_json(report_path, end.report)
    except OSError as error:
        raise disk_error(error, out_path, "saving the finished film") from error
    return FilmResult(path, sheet_path, report_path, end.report, end.path.parent)


def _draw_sheet(path: Path, plan: Plan, lead: int, end: Finished) -> Path:
    """The contact sheet of the film at `path`: a row per segment, frames read and shrunk one row at a time.

    lead: pictures of a start image, which come before the plan's first.
    """
    rows, fps = [], plan.timing.fps
    for segment in plan.segments:
        first = segment.start_frame + (lead if segment.first_chunk else 0)
        last = min(segment.start_frame + segment.frames + lead, end.frames) - 1
        if first > last:
            break
        indices = sorted({round(at) for at in np.linspace(first, last, SHEET_FRAMES)})
        pictures = pick_frames(path, indices)
        found = [index for index in indices if index in pictures]
        if not found:
            raise TakeError(f"{path.name} cannot be read back for its contact sheet", "render the film again")
        rows.append(
            SheetRow(
                segment.prompt,
                [preview(pictures[index][None], SHEET_SIDE)[0] for index in found],
                segment.verb,
                [index / fps for index in found],
                f"{first / fps:.1f} - {(last + 1) / fps:.1f} s",
            )
        )
    title, subtitle = path.stem, f"{end.seconds:.1f} s, {len(rows)} segments"
    return contact_sheet(rows, path.with_name(f"{path.stem}_sheet.png"), title=title, subtitle=subtitle)
