"""The contact sheet of a film in a Take: a row of pictures per segment, with its verb and prompt.

To find a row's pictures ten times as many are decoded, so rows are kept in the cache folder as they stand in a sheet's
file, by the sums of what they were decoded from and by what is said of them: a film with another end, or made again
under another name, draws the rows that are new.
"""

from __future__ import annotations

import hashlib
import logging
import os
import struct
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import av
import PIL

from ..errors import TakeError
from ..files.atomic import beside, make_folder, write_atomic
from ..files.cache import cache_dir, prune, read_kept
from ..files.fingerprint import combine
from ..take.folder import Run
from ..take.journal import Record
from ..video import film_row, probe
from ..video.png import Strip
from ..video.sheet import Page, film_page, spread
from ..words import counted
from .imprint import filmed_segments, said_verb

log = logging.getLogger("grounded")

AT_ONCE = 2
"""Rows that are drawn at a time: a picture of a film is decoded on one core."""
MOST = 64_000_000
"""Bytes of rows that are kept: those of some 160 segments."""
MADE = ("key", "pictures", "frames", "film_sum")
"""What a journal's line says of the pictures in a film."""
KIND = f"3 {av.__version__} {PIL.__version__}"
"""What made the kept rows out of a film's bytes; its number is that of how `video.sheet` draws and packs them."""
IN_MEMORY = 32_000_000
"""Bytes of a sheet's rows before they go to a temporary file: those of some 80 segments."""
HEAD = struct.Struct(">III")
"""Width, height and sum of a kept row, in front of its bytes."""


class Rows:
    """What is to be seen on a film's sheet; many rows lie in a temporary file, so that memory does not grow with them.

    seconds: of the film. room: folder on a disk that has room for them: where temporary files lie otherwise may be
    memory.
    """

    def __init__(self, page: Page, seconds: float, strips: Iterable[Strip], room: Path) -> None:
        self._page, self._seconds = page, seconds
        self._data = tempfile.SpooledTemporaryFile(IN_MEMORY, dir=str(room))  # noqa: SIM115  `write` closes it
        self._bare = list[tuple[Strip, int]]()
        for strip in strips:
            self._data.write(strip.data)
            self._bare.append((strip._replace(data=b""), len(strip.data)))

    def write(self, out: Path, title: str, mark: str = "") -> str:
        """Write the sheet to the image file `out`, whole or not at all; once. Returns the line under its title.

        mark: as of `files.atomic.beside`.
        """
        subtitle = f"{self._seconds:.1f} s, {counted(len(self._bare), 'segment')}"
        with self._data:
            write_atomic(out, lambda part: self._page.write(part, title, subtitle, self._strips()), mark)
        return subtitle

    def _strips(self) -> Iterator[Strip]:
        self._data.seek(0)
        for bare, size in self._bare:
            yield bare._replace(data=self._data.read(size))


def draw_rows(run: Run, film: Path, room: Path, columns: int = 6, unwanted: Event | None = None) -> Rows:
    """Draw what is in `film`, which `run` has made, kept rows as they were.

    room: folder for what is many, as `Rows` says. unwanted: set from another thread, no further row is begun.

    Raises TakeError: there is no picture in it yet, or it cannot be read. CancelledError: it was unwanted.
    """
    info = probe(film)
    fps = float(info.fps)
    records, filmed = run.committed(), filmed_segments(run)
    if not filmed:
        raise TakeError(f"{run.folder.name} has no whole segment yet", "render at least one chunk")
    page = film_page(info, max(len(spread(range(first, end), columns)) for _, _, first, end in filmed))

    def strip(one: tuple[int, dict[str, Any], int, int]) -> Strip:
        if unwanted is not None and unwanted.is_set():
            raise CancelledError
        number, segment, first, end = one
        shown = range(first, end)
        said = segment["prompt"], said_verb(segment), f"{first / fps:.1f} - {end / fps:.1f} s"
        made = records[:1] + [record for record in records if record["segment"] == number]
        path = _place(made, [page.columns, page.thumb, shown, fps, columns, said])
        if path is not None and (kept := _recall(path)) is not None:
            return kept
        row = film_row(film, shown, fps, *said, columns)
        drawn = page.row(row)
        if path is not None and len(row.frames) == len(spread(shown, columns)):
            _keep(path, drawn)
        return drawn

    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            rows = Rows(page, info.seconds, pool.map(strip, filmed), room)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # the others are not waited for
            raise
    prune(cache_dir("rows"), MOST)
    return rows


def draw_sheet(run: Run, film: Path, out: Path, title: str, columns: int = 6) -> str:
    """`draw_rows` and `Rows.write` in one call."""
    make_folder(out.parent)
    return draw_rows(run, film, out.parent, columns).write(out, title)


def _place(records: Sequence[Record], drawn: list[Any]) -> Path | None:
    """Where a row is kept; None for a film from before its bytes had sums.

    records: lines of the film's first chunk, with which lies how all are to be read, and of the segment's. drawn: what
    else its picture depends on.
    """
    if not all("film_sum" in record for record in records):
        return None
    made = [str([record.get(name) for name in MADE]) for record in records]
    return cache_dir("rows") / f"{combine([KIND, str(drawn), *made])}.row"


def _recall(path: Path) -> Strip | None:
    """The row that is kept there, if it is what was; else None."""
    try:
        kept = read_kept(path, MOST)
    except OSError:
        return None
    digest, data = kept[:32], kept[32:]
    if len(data) < HEAD.size or _sum(path, data) != digest:
        log.warning("a kept row of the contact sheet is damaged, and drawn anew: %s", path.name)
        return None
    width, height, total = HEAD.unpack_from(data)
    return Strip(width, height, total, data[HEAD.size :])


def _sum(path: Path, data: bytes) -> bytes:
    """Of a kept row and of its name, so that another row in its place is not taken for it."""
    return hashlib.sha256(path.stem.encode() + data).digest()


def _keep(path: Path, strip: Strip) -> None:
    """Keep a row, where the disk does not refuse."""
    data = HEAD.pack(strip.width, strip.height, strip.total) + strip.data
    digest = _sum(path, data)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not pushed down to the disk: what a power cut leaves of it is seen by its sum.
        with beside(path) as part:
            part.write_bytes(digest + data)
            os.replace(part, path)
    except OSError as error:  # nobody misses it
        log.debug("a row of the contact sheet is not kept: %s", error)
