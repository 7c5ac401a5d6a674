"""Shots with captions: video files with a text file beside each, or a table (CSV, JSON, JSONL) that names them."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...files.listing import below
from ...files.names import LONGEST
from ...files.utf8 import as_text
from ...foreign import read_json
from .base import Sample, check_there, readable, refused

VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".gif")
TABLES = (".csv", ".json", ".jsonl")
FILE = ("file", "path", "video", "file_name", "video_path")
CAPTION = ("caption", "prompt", "text")
"""Names of a table's columns, the first that is there."""


@dataclass(frozen=True)
class Shot:
    """One video file and what is seen in it."""

    path: Path
    caption: str


def videos(folder: Path) -> list[Path]:
    """The video files in `folder` and below."""
    return [path for path in below(folder) if path.suffix.lower() in VIDEOS and path.is_file()]


class Shots:
    """The shots of a folder or a table; as a source they are prompts, their pictures are encoded first."""

    unread = False

    def __init__(self, path: Path) -> None:
        check_there(path)
        self.path = path
        self.root = path if path.is_dir() else path.parent
        self.shots = _beside(path) if path.is_dir() else _tabled(path)
        if not self.shots:
            raise refused(path, "there is no shot in it", f"give video files ({', '.join(VIDEOS[:4])}, ...)")

    def __len__(self) -> int:
        return len(self.shots)

    def __getitem__(self, number: int) -> Sample:
        return Sample(self.shots[number].caption)

    def told(self, *, changes: bool) -> Iterator[tuple[str, str]]:
        """Every caption, with its video file."""
        for shot in self.shots:
            yield f"caption of {shot.path.name}", shot.caption


def _beside(folder: Path) -> list[Shot]:
    found = []
    for path in videos(folder):
        words = path.with_suffix(".txt")
        if not os.path.isfile(words):  # Path.is_file raises for a name that is too long
            fix = f"write what is seen into {words.name} beside it"
            if len(os.fsencode(words.name)) > LONGEST:
                fix = "give it a shorter name, and write what is seen into a .txt of that name beside it"
            raise refused(path, "it has no caption", fix)
        with readable(words, OSError):
            found.append(Shot(path, " ".join(as_text(words.read_bytes(), words).split())))
        if not found[-1].caption:
            raise refused(words, "it is empty", f"write what is seen in {path.name} into it")
    return found


def _tabled(table: Path) -> list[Shot]:
    with readable(table, (OSError, ValueError, csv.Error)):
        rows = list(_rows(table))
    shots = []
    for number, row in enumerate(rows, start=1):
        if None in row:  # of a CSV file: a comma in a caption would cut it off there
            fix = "put a caption with commas in it in double quotes"
            raise refused(table, f"row {number} has more values than the first line has names", fix)
        file, caption = (
            next((row[name] for name in names if row.get(name)), None) for names in (FILE, CAPTION)
        )
        if not isinstance(file, str) or not isinstance(caption, str) or not caption.strip():
            fix = f"give every row a {' or '.join(FILE[:3])} and a {' or '.join(CAPTION)}"
            raise refused(table, f"row {number} does not name a file with its caption", fix)
        path = table.parent / file
        if not os.path.isfile(path):  # Path.is_file raises for a name that is too long
            raise refused(
                table, f"row {number} names {file}, which is not there", "paths count from the table's folder"
            )
        shots.append(Shot(path, " ".join(caption.split())))
    return shots


def _rows(table: Path) -> Iterable[Mapping[str | None, Any]]:
    """Rows as names to values; a JSON object of file to caption is rows too."""
    text = as_text(table.read_bytes(), table)
    if table.suffix.lower() == ".csv":
        return csv.DictReader(io.StringIO(text), strict=True)
    if table.suffix.lower() == ".jsonl":
        found: Any = [read_json(line) for line in text.splitlines() if line.strip()]
    else:
        found = read_json(text)
    if isinstance(found, dict):
        found = [{FILE[0]: file, CAPTION[0]: caption} for file, caption in found.items()]
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise ValueError("it is neither a list of rows nor file names with captions")
    return found
