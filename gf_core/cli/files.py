"""Storyboards from files, with the command line's own wishes on top."""

from __future__ import annotations

import difflib
import io
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import GroundedError, StoryboardError, reason
from ..timeline import Storyboard, format_storyboard, parse

if TYPE_CHECKING:
    from ..engine.recorded import Recorded

FILMS = (".mp4", ".mov", ".mkv")
"""Suffixes of films, which carry their storyboard."""
EDITS = (".otio", ".edl", ".fcpxml")
"""Suffixes of editorial timelines."""


def is_film(name: str) -> bool:
    """Whether a storyboard called `name` is a film."""
    return Path(name).suffix.lower() in FILMS


def film_name(args: Namespace) -> str:
    """What a film of this storyboard is called, where nothing else is said."""
    return "film" if args.storyboard == "-" else Path(args.storyboard).stem


def read_text(name: str) -> str:
    """The storyboard's text: a text file, what a film or an edit (`.otio`, `.edl`) carries, or standard input (`-`)."""
    path = Path(name)
    if name == "-":
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(encoding="utf-8-sig")
        try:
            return sys.stdin.read()
        except UnicodeDecodeError as error:
            raise GroundedError("standard input is not text in UTF-8", "save it as UTF-8 text") from error
    if is_film(name):
        from ..engine.recorded import read_timeline

        return read_timeline(path)
    if path.suffix.lower() in EDITS:
        from ..editorial import read_edit

        return format_storyboard(read_edit(path))
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        beside = [other.name for other in path.parent.glob("*.txt")] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, beside, n=1)
        fix = f"did you mean {path.with_name(near[0])}?" if near else "check the name and the folder"
        raise GroundedError(f"there is no storyboard {path}", fix) from error
    except UnicodeDecodeError as error:
        raise GroundedError(f"{path} is not text in UTF-8", "save it as UTF-8 text") from error
    except OSError as error:
        raise GroundedError(f"{path} cannot be read: {reason(error)}", "give a text file") from error


def read_making(args: Namespace) -> Recorded | None:
    """How the storyboard's film was made, where `args` name a film; None for text."""
    if not is_film(args.storyboard):
        return None
    from ..engine.recorded import read_recorded

    return read_recorded(args.storyboard)


def read_board(args: Namespace) -> tuple[str, Storyboard]:
    """The storyboard named by `args`, its text and what that says, with --seed and --fps in both.

    Raises GroundedError; errors in the text name the file.
    """
    text = read_text(args.storyboard)
    try:
        board = parse(text)
    except StoryboardError as error:
        error.message = f"{error.message} (in {args.storyboard})"
        raise
    changes = {name: getattr(args, name) for name in ("seed", "fps") if getattr(args, name) is not None}
    if not changes:
        return text, board
    board = replace(board, **changes)
    return format_storyboard(board), board
