"""From a storyboard's text to a finished film in one call: what the command line does, and what tests drive."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import Encoding, Recipe
from ..errors import GroundedError, TakeError
from ..estimate.budget import Budget
from ..estimate.measured import remember_bits, sheet_key
from ..files.atomic import check_length, check_writable, fitting, on_disk, shortened, write_json
from ..files.names import LONGEST
from ..take.folder import Run, Take
from ..video import place_film
from ..video.codecs import SUFFIXES, check_suffix
from ..words import plain
from .compiling import settle_pieces
from .events import Event, Finished
from .film import Film, as_path, look, settle
from .imprint import film_chapters, film_metadata, filmed_segments
from .making import check, make, preflight
from .session import Session
from .sheet import draw_rows

if TYPE_CHECKING:
    from ..checkpoints.model_bundle import ModelBundle


OTHERS = (
    ".webm", ".gif", ".avi", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv", ".ts", ".mts", ".m2ts", ".3gp", ".mxf",
    ".qt", ".png", ".jpg", ".jpeg", ".webp", ".exr", ".tif", ".tiff",
)  # fmt: skip
"""Suffixes of films and pictures that a film is not saved as; any other suffix is part of a name."""
USUAL = ".mp4"
"""That of a film for which no other is asked."""


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
    there: bool = False
    """This very film lay at `path` already: nothing was placed."""


def render_film(
    bundle: ModelBundle,
    storyboard_text: str,
    out_path: str | Path,
    *,
    recipe: Recipe | None = None,
    encoding: Encoding | None = None,
    start_image: str | Path | None = None,
    start_video: str | Path | None = None,
    folder: str | Path = ".",
    take_folder: str | Path | None = None,
    until: int | None = None,
    sheet: bool = True,
    listener: Callable[[Event], None] | None = None,
    on_budget: Callable[[Budget], None] | None = None,
) -> FilmResult:
    """A storyboard's text to a film at `out_path`: `settle` and `render_settled` in one call, which say the rest.

    recipe: None takes what the checkpoint wants, at the storyboard's `@fps`.
    """
    start = {"start_image": start_image, "start_video": start_video}
    film = settle(bundle, storyboard_text, recipe=recipe, encoding=encoding, folder=folder, **start)
    return render_settled(
        film,
        out_path,
        take_folder=take_folder,
        until=until,
        sheet=sheet,
        listener=listener,
        on_budget=on_budget,
    )


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

    out_path: the film. Where it is taken, `name-2`, ... is used; sheet and report wear the same name.
    take_folder: None keeps the Take beside the film, as `name.take`.
    until: stop after this segment of the storyboard, counted from 1; the next render into the Take goes on.
    sheet: draw the contact sheet.
    listener: gets every event; what it raises stops the render, and the film so far stays in the Take.
    on_budget: gets the estimate before anything is made.

    Raises GroundedError children: the storyboard, the settings, the machine's limits, or a failure on the way, in
    words.
    """
    out_path = output_path(out_path)
    check_suffix(out_path, film.encoding.codec)
    beside = out_path.with_name(shortened(out_path.stem, LONGEST - len(".take")) + ".take")
    folder = beside if take_folder is None else as_path(take_folder, "take_folder")
    film = settle_pieces(film, folder)
    with Take.open(folder) as take:
        found = look(film, folder, until)
        film = found.film
        budget = preflight(found, sheet=sheet)
        if on_budget is not None:
            on_budget(budget)
        check(film, budget, folder)
        check_writable(out_path.parent)
        end = make(Session(take, found), budget, listener)
        return _place(out_path, film, end, sheet, take.mark)


def output_path(out: str | Path, name: str = "film") -> Path:
    """Where a film that is asked for at `out` goes: with a suffix, and into a folder that exists as `name`.mp4.

    Raises GroundedError: it cannot be saved there, whatever it will look like.
    """
    path = as_path(out, "out_path")
    if os.path.isdir(path) or str(out).endswith(("/", os.sep)):
        path = path / (name + USUAL)
    suffix = path.suffix.lower()
    if suffix in OTHERS:
        raise TakeError(
            f"{path.name} cannot be saved: a film does not go into a file called {suffix}",
            f"use {', '.join(SUFFIXES)}; sound and other forms afterwards: docs/films.md, Saving in another form",
        )
    if suffix not in SUFFIXES:
        path = path.with_name(path.name + USUAL)
    check_length(path)
    return path


def _companion(film: Path, end: str) -> Path:
    """The file beside `film` that wears its name and `end`.

    Of `film.mkv` it is `film.mkv_sheet.png`: a `film.mp4` may lie beside it.
    """
    name = film.stem if film.suffix == USUAL else film.name
    return film.with_name(fitting(name, end))


def _place(out_path: Path, film: Film, end: Finished, sheet: bool, mark: str) -> FilmResult:
    """The finished film with its metadata, the sheet and the report, under one name; `mark` as of the Take."""
    run = Run(end.path.parent)
    with on_disk(out_path, "saving the finished film"):
        title = film_metadata(run, out_path.stem)
        there, made = list[Path](), bool(end.report["seconds"]["first chunk"])
        same = None if made else there.append
        unwanted = threading.Event()
        with ThreadPoolExecutor(1, "grounded-sheet") as beside:
            room, rows = out_path.parent, None
            drawn = (
                beside.submit(draw_rows, run, end.path, room, unwanted=unwanted) if sheet and made else None
            )
            try:
                path = place_film(
                    end.path, out_path, metadata=title, chapters=film_chapters(run), same=same, mark=mark
                )
                if drawn is not None:
                    with _saved(path):
                        rows = drawn.result()
            except BaseException:
                unwanted.set()  # who stops the film, or whose disk is full, does not wait for pictures of it
                raise
    with _saved(path):
        sheet_path = _companion(path, "_sheet.png") if sheet else None
        if sheet_path is not None and not (there and sheet_path.is_file()):
            rows = rows or draw_rows(run, end.path, room)
            rows.write(sheet_path, path.stem, mark)
            _count_sheet(sheet_path, film, end)
        report_path = _companion(path, "_report.json")
        if not (there and report_path.is_file()):
            write_json(report_path, end.report, mark)
    return FilmResult(path, sheet_path, report_path, end.report, end.path.parent, bool(there))


@contextmanager
def _saved(film: Path) -> Iterator[None]:
    """Around what is put beside `film`, which lies there whole: an error says where."""
    try:
        with on_disk(film.parent, "making the contact sheet or the report"):
            yield
    except GroundedError as error:
        error.message = f"{error.message}; the film itself is saved: {plain(film)}"
        raise


def _count_sheet(path: Path, film: Film, end: Finished) -> None:
    """Add the sheet to what the film took, and remember its size for the next one."""
    taken, rows = path.stat().st_size, len(filmed_segments(Run(end.path.parent)))
    disk = end.report["estimate"]["disk"]
    if disk["measured"]:
        disk["measured"] += taken
    remember_bits(sheet_key(film.bundle.fingerprint, film.recipe.video), taken * 8 / rows, end.frames)
