"""Storyboards from files, with the command line's own wishes on top."""

from __future__ import annotations

import difflib
import io
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import GroundedError, StoryboardError, reason
from ..files.utf8 import as_text
from ..timeline import Storyboard, format_storyboard, parse
from ..words import size

if TYPE_CHECKING:
    from ..engine.recorded import Recorded

FILMS = (".mp4", ".mov", ".mkv")
"""Suffixes of films, which carry their storyboard."""
EDITS = (".otio", ".edl", ".fcpxml")
"""Suffixes of editorial timelines."""
LARGEST = 32_000_000
"""Bytes of a text that is read; the longest storyboards have a thousandth of them."""


def is_film(name: str) -> bool:
    """Whether a storyboard called `name` is a film."""
    return Path(name).suffix.lower() in FILMS


def film_name(args: Namespace) -> str:
    """What a film of this storyboard is called, where nothing else is said."""
    return "film" if args.storyboard == "-" else Path(args.storyboard).stem


def film_path(args: Namespace) -> Path:
    """Where the film goes: --out, or films/. Raises GroundedError: it cannot be saved there."""
    from ..engine.render import output_path

    return output_path("films/" if args.out is None else args.out, film_name(args))


def take_folder(args: Namespace, out: Path | None = None) -> Path:
    """The Take: --take, or the storyboard's own in takes/, whatever its films are called.

    out: the film. One that was begun in a Take of its name goes on there.
    """
    takes = Path("takes")
    if out is not None and args.take is None and (takes / out.stem).is_dir():
        return takes / out.stem
    return args.take or takes / film_name(args)


def folder_of(args: Namespace) -> Path:
    """Where the storyboard lies; where we are for standard input."""
    return Path() if args.storyboard == "-" else Path(args.storyboard).parent


def read_text(name: str, fps: float | None = None) -> str:
    """The storyboard's text: a text file, standard input (`-`), or what a film, an edit (`.otio`, `.edl`) or a file of
    another program says.

    fps: pictures a second of a file that counts frames and does not say their speed.
    """
    path = Path(name)
    if is_film(name):
        from ..engine.recorded import read_timeline

        return read_timeline(path)
    if path.suffix.lower() in EDITS:
        from ..editorial import read_edit

        return format_storyboard(read_edit(path))
    text = _plain_text(name)
    from ..editorial.others import is_theirs, read_theirs

    if not is_theirs(text, path.suffix):
        return text
    return format_storyboard(read_theirs(text, Path(_shown(name)), fps))


def is_own_text(name: str) -> bool:
    """Whether `name` is a file of our own language, which a seed can be written into."""
    from ..editorial.others import is_theirs

    suffix = Path(name).suffix.lower()
    return name != "-" and suffix not in FILMS + EDITS and not is_theirs(_plain_text(name), suffix)


def _shown(name: str) -> str:
    """What a storyboard's file is called in words."""
    return "standard input" if name == "-" else name


def _plain_text(name: str) -> str:
    path, shown = Path(name), _shown(name)
    try:
        data = _read_stdin() if name == "-" else _read_bytes(path)
        if len(data) > LARGEST:
            raise GroundedError(
                f"{shown} has more than {size(LARGEST)}, no storyboard has", "give its text alone"
            )
        return as_text(data, shown)
    except FileNotFoundError as error:
        beside = [other.name for other in path.parent.glob("*.txt")] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, beside, n=1)
        fix = f"did you mean {path.with_name(near[0])}?" if near else "check the name and the folder"
        raise GroundedError(f"there is no storyboard {path}", fix) from error
    except OSError as error:
        fix = "check your rights to the file" if isinstance(error, PermissionError) else "give a text file"
        raise GroundedError(f"{shown} cannot be read: {reason(error)}", fix) from error


def _read_bytes(path: Path) -> bytes:
    """No more than can be refused: a device never ends, and a pipe may never begin (but for one made by a shell)."""
    if path.is_fifo() and path.parts[:2] not in (("/", "dev"), ("/", "proc")):
        raise GroundedError(f"{path} is a pipe, not a file", "give the file, or - and pipe the text in")
    with open(path, "rb") as file:
        return file.read(LARGEST + 1)


def _read_stdin() -> bytes:
    if sys.stdin is None:
        raise GroundedError("there is no standard input", "give the storyboard's file, or pipe its text in")
    if isinstance(sys.stdin, io.TextIOWrapper):
        return sys.stdin.buffer.read(LARGEST + 1)
    return sys.stdin.read().encode("utf-8")  # a host's own


def read_making(args: Namespace) -> Recorded | None:
    """How the storyboard's film was made, where `args` name a film; None for text."""
    if not is_film(args.storyboard):
        return None
    from ..engine.recorded import read_recorded

    return read_recorded(args.storyboard)


def parse_file(text: str, name: str) -> Storyboard:
    """What the storyboard's text says; errors name its file."""
    try:
        return parse(text)
    except StoryboardError as error:
        error.name_file(_shown(name))
        raise


@contextmanager
def named(args: Namespace) -> Iterator[None]:
    """Around what is made of a storyboard: errors in its text name the file, and whether it has another text."""
    try:
        yield
    except StoryboardError as error:
        names = (getattr(args, name, None) for name in ("storyboard", "film", "source"))
        name = next((str(name) for name in names if name is not None), "")
        if name:
            changed = any(getattr(args, option, None) is not None for option in ("seed", "fps"))
            as_it_lies = not changed and (name == "-" or is_film(name) or is_own_text(name))
            error.name_file(_shown(name) if as_it_lies else f"the storyboard made of {name}")
        raise


def read_board(args: Namespace) -> tuple[str, Storyboard]:
    """The storyboard named by `args`, its text and what that says, with --seed and --fps in both.

    Raises GroundedError; errors in the text name the file.
    """
    text = read_text(args.storyboard, args.fps)
    board = parse_file(text, args.storyboard)
    changes = {name: getattr(args, name) for name in ("seed", "fps") if getattr(args, name) is not None}
    if not changes:
        return text, board
    board = replace(board, **changes)
    return format_storyboard(board), board
