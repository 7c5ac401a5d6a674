"""From a storyboard's text to a finished film in one call: what the command line does, and what tests drive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import Encoding, Recipe
from ..estimate.budget import Budget
from ..estimate.measured import remember_bits, sheet_key
from ..files.atomic import check_writable, disk_error, write_json
from ..take.folder import Run, Take
from ..video import contact_sheet, film_row, place_film
from .events import Event, Finished
from .film import Film, look, settle
from .imprint import film_chapters, film_metadata
from .making import check, make, preflight
from .session import Session

if TYPE_CHECKING:
    from ..checkpoints.bundle import ModelBundle


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
    recipe: Recipe | None = None,
    encoding: Encoding | None = None,
    start_image: str | Path | None = None,
    **options: Any,
) -> FilmResult:
    """A storyboard's text to a film at `out_path`: `settle` and `render_settled` in one call, which say the rest.

    recipe: None takes what the checkpoint wants, at the storyboard's `@fps`.
    """
    film = settle(bundle, storyboard_text, recipe=recipe, encoding=encoding, start_image=start_image)
    return render_settled(film, out_path, **options)


def render_settled(
    film: Film,
    out_path: str | Path,
    *,
    take_folder: str | Path | None = None,
    until: int | None = None,
    sheet: bool = True,
    listener: Callable[[Event], None] | None = None,
    on_budget: Callable[[Budget], None] | None = None,
) -> FilmResult:
    """Check, render, and place film, contact sheet and report at `out_path`; nothing is overwritten.

    Args:
        out_path: the film. Where it is taken, `name-2`, ... is used; sheet and report wear the same name.
        take_folder: None keeps the Take beside the film, as `name.take`.
        until: stop after this segment of the storyboard, counted from 1; the next render into the Take goes on.
        sheet: draw the contact sheet.
        listener: gets every event; what it raises stops the render, and the film so far stays in the Take.
        on_budget: gets the estimate before anything is made.

    Raises:
        GroundedError children: the storyboard, the settings, the machine's limits, or a failure on the way, in words.
    """
    out_path = Path(out_path)
    check_writable(out_path.parent)
    folder = Path(take_folder) if take_folder is not None else out_path.with_suffix(".take")
    with Take.open(folder) as take:
        found = look(film, folder, until)
        budget = preflight(found, sheet=sheet)
        if on_budget is not None:
            on_budget(budget)
        check(film, budget, folder)
        end = make(Session(take, found), budget, listener)
        return _place(out_path, film, end, sheet)


def _place(out_path: Path, film: Film, end: Finished, sheet: bool) -> FilmResult:
    """The finished film with its metadata, the sheet and the report, under one name."""
    run = Run(end.path.parent)
    try:
        title = film_metadata(run, out_path.stem)
        path = place_film(end.path, out_path, metadata=title, chapters=film_chapters(run))
        sheet_path = _draw_sheet(path, film, end) if sheet else None
        if sheet_path is not None:
            _count_sheet(sheet_path, film, end)
        report_path = path.with_name(f"{path.stem}_report.json")
        write_json(report_path, end.report)
    except OSError as error:
        raise disk_error(error, out_path, "saving the finished film") from error
    return FilmResult(path, sheet_path, report_path, end.report, end.path.parent)


def _count_sheet(path: Path, film: Film, end: Finished) -> None:
    """Add the sheet to what the film took, and remember its size for the next one."""
    taken, rows = path.stat().st_size, len(film_chapters(Run(end.path.parent)))
    disk = end.report["estimate"]["disk"]
    if disk["measured"]:
        disk["measured"] += taken
    remember_bits(sheet_key(film.bundle.fingerprint, film.recipe.video), taken * 8 / rows, end.frames)


def _draw_sheet(path: Path, film: Film, end: Finished) -> Path:
    """The contact sheet of the film at `path`: a row per segment, frames read and shrunk one row at a time."""
    rows, fps = [], film.timing.fps
    for segment in film.plan.segments:
        first, last = film.frames(segment.first_chunk), film.frames(segment.first_chunk + segment.chunks)
        last = min(last, end.frames)
        if first >= last:
            break
        span = f"{first / fps:.1f} - {last / fps:.1f} s"
        rows.append(film_row(path, first, last, fps, segment.prompt, segment.verb, span))
    title, subtitle = path.stem, f"{end.seconds:.1f} s, {len(rows)} segments"
    return contact_sheet(rows, path.with_name(f"{path.stem}_sheet.png"), title=title, subtitle=subtitle)
