"""`grounded export`: a film, or a storyboard, for an editing program."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

from ..editorial import Span, write_edit
from ..errors import StoryboardError
from ..timeline import Storyboard, make_plan, parse
from .files import is_film, read_text


def export(args: Namespace) -> int:
    """Write the edit and say where it is."""
    board = parse(read_text(args.source))
    film = Path(args.source) if is_film(args.source) else None
    spans = _film_spans(board, film) if film is not None else _planned_spans(board)
    write_edit(board, spans, args.out, _beside(film, args.out))
    print(f"{len(spans)} clips in {args.out}")
    return 0


def _planned_spans(board: Storyboard) -> list[Span]:
    """Where the segments will be."""
    if all(segment.mute for segment in board.segments):
        raise StoryboardError("every segment is muted", "remove 'mute' from at least one segment")
    return [Span(part.index, part.start_frame, part.frames) for part in make_plan(board).segments]


def _film_spans(board: Storyboard, film: Path) -> list[Span]:
    """Where the segments are, by the film's chapters; a stopped film has fewer of them than its storyboard."""
    from ..video import probe, read_chapters

    fps = probe(film).fps
    planned, chapters = _planned_spans(board), read_chapters(film)
    if not chapters:
        return planned
    edges = [(round(chapter.start_seconds * fps), round(chapter.end_seconds * fps)) for chapter in chapters]
    return [Span(part.index, start, end - start) for part, (start, end) in zip(planned, edges)]


def _beside(film: Path | None, out: Path) -> str | None:
    """The film's place as seen from the edit, so that both can be moved together."""
    if film is None:
        return None
    try:
        return Path(os.path.relpath(film, out.parent)).as_posix()
    except ValueError:  # another drive
        return film.resolve().as_posix()
