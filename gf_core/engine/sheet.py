"""The contact sheet of a film in a Take: a row of pictures per segment, with its verb and prompt.

To find a row's pictures ten times as many are decoded, so they are kept in the cache folder, by the sums of what they
were decoded from: a film with another end, or made again under another name, decodes the rows that are new.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import PIL
from PIL import Image

from ..errors import TakeError
from ..files.atomic import beside
from ..files.cache import cache_dir, prune, read_kept
from ..files.fingerprint import combine
from ..take.folder import Run
from ..take.journal import Record
from ..video import SheetRow, contact_sheet, film_row, probe, small_pictures
from ..words import counted
from .imprint import filmed_segments, said_verb

log = logging.getLogger("grounded")

AT_ONCE = 2
"""Rows that are read at a time: a picture of a film is decoded on one core."""
MOST = 64_000_000
"""Bytes of rows that are kept: those of some 200 segments."""
MADE = ("key", "pictures", "frames", "film_sum")
"""What a journal's line says of the pictures in a film."""
KIND = f"1 {av.__version__} {PIL.__version__}"
"""What made the kept pictures out of a film's bytes."""


def draw_sheet(run: Run, film: Path, out: Path, title: str, columns: int = 6) -> str:
    """Draw what is in `film`, which `run` has made, to the image file `out`; returns the line under its title.

    Raises TakeError: there is no picture in it yet, or it cannot be read.
    """
    info = probe(film)
    fps = float(info.fps)
    records = run.committed()

    def row(filmed: tuple[int, dict[str, Any], int, int]) -> SheetRow:
        number, segment, first, end = filmed
        verb, span = said_verb(segment["verb"], segment.get("back")), f"{first / fps:.1f} - {end / fps:.1f} s"
        seen = partial(_pictures, records[:1] + [record for record in records if record["segment"] == number])
        return film_row(film, range(first, end), fps, segment["prompt"], verb, span, columns, seen)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        rows = list(pool.map(row, filmed_segments(run)))
    if not rows:
        raise TakeError(f"{run.folder.name} has no whole segment yet", "render at least one chunk")
    subtitle = f"{info.seconds:.1f} s, {counted(len(rows), 'segment')}"
    contact_sheet(rows, out, title=title, subtitle=subtitle)
    prune(cache_dir("rows"), MOST)
    return subtitle


def _pictures(records: Sequence[Record], film: str | Path, indices: Sequence[int]) -> dict[int, np.ndarray]:
    """`small_pictures` of a segment; kept ones where there are any.

    records: lines of the film's first chunk, with which lies how all are to be read, and of the segment's.
    """
    if not all("film_sum" in record for record in records):  # a film from before there were any
        return small_pictures(film, indices)
    made = [str([record.get(name) for name in MADE]) for record in records]
    places = [at - records[1]["first_frame"] for at in indices]
    path = cache_dir("rows") / f"{combine([KIND, str(places), *made])}.row"
    found = _recall(path, len(indices))
    if found is not None:
        return dict(zip(indices, found))
    pictures = small_pictures(film, indices)
    if len(pictures) == len(indices):
        _keep(path, [pictures[at] for at in indices])
    return pictures


def _recall(path: Path, count: int) -> list[np.ndarray] | None:
    """The `count` pictures that are kept there, if they are those that were; else None."""
    try:
        kept = read_kept(path)
    except OSError:
        return None
    digest, data = kept[:32], kept[32:]
    if hashlib.sha256(data).digest() != digest:
        log.warning("a kept row of the contact sheet is damaged, and drawn anew: %s", path.name)
        return None
    with Image.open(io.BytesIO(data)) as image:
        return np.split(np.asarray(image), count)


def _keep(path: Path, pictures: Sequence[np.ndarray]) -> None:
    """Keep pictures, all of one size, below each other, where the disk does not refuse."""
    data = io.BytesIO()
    Image.fromarray(np.concatenate(pictures)).save(data, "PNG", compress_type=zlib.Z_RLE)
    digest = hashlib.sha256(data.getvalue()).digest()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not pushed down to the disk: what a power cut leaves of it is seen by its sum.
        with beside(path) as part:
            part.write_bytes(digest + data.getvalue())
            os.replace(part, path)
    except OSError as error:  # nobody misses it
        log.debug("a row of the contact sheet is not kept: %s", error)
