"""Takes what earlier runs hold into a run: latents by hard link, the film's first chunks by copying their bytes."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from ..files.atomic import beside, disk_error, sync_file, sync_folder
from ..video.boxes import read_layout
from .folder import RunWriter
from .journal import Record
from .reuse import Reuse

log = logging.getLogger("grounded")
BLOCK = 1 << 20


def take_over(writer: RunWriter, reuse: Reuse) -> None:
    """Fill `writer`'s run with what `reuse` found, in the order of a commit, so that a kill in between does no harm.

    The run is new, or the one that `reuse` goes on with: then only latents of other runs are added.

    Raises:
        TakeError, ResourceError: the run cannot be written.
    """
    run = writer.run
    try:
        _link_all([(k.run.latents(k.record["index"]), run.latents(i)) for i, k in enumerate(reuse.chunks)])
        sync_folder(run.latents(0).parent)
        if reuse.source is not None and reuse.decoded and not reuse.goes_on:
            ends = [fragment.end for fragment in read_layout(reuse.source.film).fragments[: reuse.decoded]]
            _copy_start(reuse.source.film, run.film, ends[-1])
            sync_folder(run.folder)
            writer.commit(*_records(reuse, ends))
    except OSError as error:
        raise disk_error(error, run.folder, "taking over what was made before") from error


def _records(reuse: Reuse, ends: list[int]) -> list[Record]:
    """Journal lines of the chunks whose pictures are in the copied film; `ends` are their last bytes there."""
    lines: list[Record] = []
    first_frame = 0
    for index, (kept, end) in enumerate(zip(reuse.chunks, ends)):
        same = {
            name: kept.record[name]
            for name in ("kind", "index", "segment", "key", "frames", "latents", "anchor")
        }
        place = {"index": index, "first_frame": first_frame, "film_bytes": end, "from": kept.run.folder.name}
        lines.append({**same, **place})
        first_frame += kept.record["frames"]
    return lines


def _link_all(pairs: Iterable[tuple[Path, Path]]) -> None:
    """Give each first file the second name as well; a file of an unfinished commit there is replaced."""
    copying = False
    for source, target in pairs:
        if source == target:
            continue
        with beside(target) as part:
            try:
                if not copying:
                    os.link(source, part)
            except OSError as error:
                log.info("latents are copied, this disk makes no hard links: %s", error)
                copying = True
            if copying:
                shutil.copyfile(source, part)
                sync_file(part)
            os.replace(part, target)  # does nothing where both are names of one file


def _copy_start(source: Path, target: Path, size: int) -> None:
    """Copy the first `size` bytes and push them to the disk."""
    with open(source, "rb") as old, open(target, "wb") as new:
        while size:
            block = old.read(min(BLOCK, size))
            if not block:
                raise OSError(f"{source} became shorter while it was read")
            new.write(block)
            size -= len(block)
    sync_file(target)
