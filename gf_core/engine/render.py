"""From a storyboard's text to a finished film in one call: what the command line does, and what tests drive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config import MemorySpec, SampleSpec, VideoSpec
from ..errors import TakeError
from ..files.atomic import check_writable, disk_error, write_json
from ..video import SheetRow, contact_sheet, pick_frames, place_film
from .budget import Budget
from .events import Event, Finished
from .frames import preview
from .imprint import film_chapters, film_metadata
from .making import Making, check, make, preflight, settle
from .measured import remember_bits, sheet_key
from .settings import FilmSpec
from .take import Run, Take

if TYPE_CHECKING:
    from ..checkpoints.bundle import ModelBundle

SHEET_FRAMES = 6
"""Pictures per segment on the contact sheet."""
SHEET_SIDE = 640
"""Longest side of a picture kept for the sheet, in pixels."""


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
    out_path = Path(out_path)
    making = settle(
        bundle,
        storyboard_text,
        memory=memory,
        sample=sample,
        video=video,
        film=film,
        start_image=start_image,
    )
    check_writable(out_path.parent)
    folder = Path(take_folder) if take_folder is not None else out_path.with_suffix(".take")
    budget = preflight(making, folder, until, sheet=sheet)
    if on_budget is not None:
        on_budget(budget)
    check(making, budget, folder)
    with Take.open(folder) as take:
        end = make(making, making.session(take, until), budget, listener)
        return _place(out_path, making, end, sheet)


def _place(out_path: Path, making: Making, end: Finished, sheet: bool) -> FilmResult:
    """The finished film with its metadata, the sheet and the report, under one name."""
    run = Run(end.path.parent)
    try:
        title = film_metadata(run, out_path.stem)
        path = place_film(end.path, out_path, metadata=title, chapters=film_chapters(run))
        sheet_path = _draw_sheet(path, making, end) if sheet else None
        if sheet_path is not None:
            _count_sheet(sheet_path, making, end)
        report_path = path.with_name(f"{path.stem}_report.json")
        write_json(report_path, end.report)
    except OSError as error:
        raise disk_error(error, out_path, "saving the finished film") from error
    return FilmResult(path, sheet_path, report_path, end.report, end.path.parent)


def _count_sheet(path: Path, making: Making, end: Finished) -> None:
    """Add the sheet to what the film took, and remember its size for the next one."""
    taken, rows = path.stat().st_size, len(film_chapters(Run(end.path.parent)))
    disk = end.report["estimate"]["disk"]
    if disk["measured"]:
        disk["measured"] += taken
    remember_bits(sheet_key(making.bundle.fingerprint, making.video), taken * 8 / rows, end.frames)


def _draw_sheet(path: Path, making: Making, end: Finished) -> Path:
    """The contact sheet of the film at `path`: a row per segment, frames read and shrunk one row at a time."""
    plan, rows = making.plan, []
    fps = plan.timing.fps
    lead = (
        0 if making.start is None else plan.timing.time_stride
    )  # a start image comes before the plan's first
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
