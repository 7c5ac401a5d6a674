"""`grounded watch`: a storyboard's film, made again whenever the text is saved, by a model that stays open."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from argparse import Namespace
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..engine.events import Event, Finished
from ..errors import STOPPED, GroundedError, StoryboardError
from .files import film_path, folder_of, is_film, named, read_board
from .opening import open_film
from .render import make_film, print_film
from .screen import Screen
from .several import in_team

if TYPE_CHECKING:
    from ..team import Team

PAUSE = 0.1
"""Seconds between two looks at the files; so long must they lie still before they are read."""
Stamps = dict[Path, tuple[int, ...] | None]
"""By file, what tells it from one that was saved since; None where it is not there."""


class _Saved(Exception):
    """What a film is made from was saved while it was being made."""


@in_team
def watch(args: Namespace, team: Team | None) -> int:
    """Render, wait until what the film is made from is saved, render again; 0 after Ctrl-C, 130 in the midst of a film.

    A storyboard that cannot be rendered is told and waited for; so is all that goes wrong once the model is open.
    """
    if args.storyboard == "-" or is_film(args.storyboard):
        raise GroundedError(
            f"{args.storyboard} cannot be watched: it is no text that is saved", "give a text file"
        )
    out, bundle = film_path(args), None
    while True:
        stamps, screen = stamps_of(_made_from(args)), Screen()
        try:
            with named(args), screen.shown():
                film = open_film(args, team, bundle)
                bundle = film.bundle
                result = make_film(args, film, out, screen, partial(_stop_if_saved, stamps))
            print_film(result)
        except _Saved:
            print(
                f"{args.storyboard} was saved: what is finished of this film is used in the next",
                file=sys.stderr,
            )
            stamps = dict.fromkeys(stamps)  # what was moved away may come back as it was
        except GroundedError as error:
            if bundle is None and not isinstance(error, StoryboardError):
                raise
            print(f"grounded: {error}", file=sys.stderr)
        except KeyboardInterrupt:
            print(screen.what_is_kept(), file=sys.stderr)
            return STOPPED
        try:
            wait(stamps)
        except KeyboardInterrupt:
            return 0


def _made_from(args: Namespace) -> list[Path]:
    """The files that a film is made from: storyboard, start, pictures of the cast, which may be missing yet."""
    files = [Path(args.storyboard), *filter(None, (args.start_image, args.start_video))]
    with contextlib.suppress(GroundedError):  # said when it is opened
        _, board = read_board(args)
        files += [folder_of(args) / picture.file for picture in board.pictures.values()]
    return files


def stamps_of(files: Iterable[Path]) -> Stamps:
    """How files lie there now."""
    return {path: _stamp(path) for path in files}


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        state = os.stat(path)
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size, state.st_ino


def _stop_if_saved(stamps: Stamps, event: Event) -> None:
    if not isinstance(event, Finished) and stamps_of(stamps) != stamps:
        raise _Saved


def wait(stamps: Stamps) -> None:
    """Return when a file is not as `stamps` says any more, and none has changed for a moment: editors write in pieces.

    The first one, the storyboard, must be there again: some editors move the old one away.
    """
    storyboard = next(iter(stamps))
    print(f"waiting for {storyboard} to be saved; Ctrl-C ends", file=sys.stderr, flush=True)
    before = stamps
    while (now := stamps_of(stamps)) == stamps or now != before or now[storyboard] is None:
        before = now
        time.sleep(PAUSE)
