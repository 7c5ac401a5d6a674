"""One render in a Take: where its parts lie (`folder.py` has the layout), how they are read back and checked."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import TakeError, reason
from ..files.atomic import json_bytes, on_disk, write_atomic, write_json
from ..foreign import read_json
from . import own
from .journal import Record, read_journal

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("grounded")

_RUN = re.compile(r"run-(\d{4,})")
_SETTINGS = {
    "film_key": str, "pictures_key": str, "segments": list, "video": dict, "sample": dict, "memory": dict,
}  # fmt: skip
_SEGMENT = {
    "number": int, "verb": str, "prompt": str, "seed": int, "chunks": int, "seconds": float, "key": str,
}  # fmt: skip
"""What `settings.json` must hold, and each of its segments."""
_LATENTS = {"index": int, "segment": int, "key": str, "latents": str, "anchor": dict | None}
_FIELDS: dict[str, dict[str, Any]] = {
    "latents": _LATENTS,
    "chunk": {**_LATENTS, "frames": int, "first_frame": int, "film_bytes": int},
    "state": {"name": str, "digest": str},
    "end": {"cancelled": bool},
}
"""Kind of a journal's record -> what it must hold."""


def has_fields(values: Any, fields: Mapping[str, Any]) -> bool:
    """Whether `values`, read from JSON, has these fields, each of its type."""
    if not isinstance(values, dict) or not fields.keys() <= values.keys():
        return False
    # A float may have been written without its fraction.
    return all(
        isinstance(values[name], (int, kind) if kind is float else kind) for name, kind in fields.items()
    )


def is_whole(record: Any) -> bool:
    """Whether a journal's record is one that this version writes."""
    kind = record.get("kind") if isinstance(record, dict) else None
    return isinstance(kind, str) and has_fields(record, _FIELDS.get(kind, {}))


def _whole_settings(found: Any) -> bool:
    fits = has_fields(found, _SETTINGS) and has_fields(found["video"], {"fps": float})
    return fits and all(has_fields(segment, _SEGMENT) for segment in found["segments"])


class Run:
    """The folder of one render: paths, and how its parts are read back. See the module for the layout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.film = folder / "film.mp4"
        self.journal = folder / "journal.jsonl"
        self.timeline = folder / "timeline.txt"
        self.settings = folder / "settings.json"
        self.report = folder / "report.json"

    def latents(self, index: int) -> Path:
        """File of the clean latents of chunk `index`."""
        return self.folder / "latents" / f"{index:06d}.safetensors"

    def writable(self) -> bool:
        """Whether nothing stands where its parts are written: a file may be replaced, a folder may not."""
        files = [self.film, self.journal, self.timeline, self.settings, self.report]
        latents = self.latents(0).parent
        if own.is_folder(latents):
            files += own.listed(latents)
        elif os.path.lexists(latents):
            return False
        return not any(own.is_folder(path) for path in files)

    def stands_alone(self) -> bool:
        """Whether film and journal have no second name, as after `cp -al`: what is appended would be in both."""
        return all(path.lstat().st_nlink < 2 for path in (self.film, self.journal) if os.path.lexists(path))

    def read_settings(self) -> dict[str, Any]:
        """What `settings.json` holds. Raises TakeError: the file is missing or damaged."""
        return self._read(self.settings, "settings", _whole_settings)

    def _read(self, path: Path, what: str, whole: Callable[[Any], bool]) -> dict[str, Any]:
        """JSON of this version; `what` names it in the error."""
        try:
            found = read_json(own.read_file(path))
            if not whole(found):
                raise ValueError("another version made it")
        except (OSError, ValueError) as error:
            raise TakeError(
                f"the {what} of {self.folder} cannot be read: {reason(error)}", "render again"
            ) from error
        return found

    def read_timeline(self) -> str:
        """The storyboard as it was rendered. Raises TakeError: the file is missing or damaged."""
        try:
            return own.read_file(self.timeline).decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise TakeError(
                f"the storyboard of {self.folder} cannot be read: {reason(error)}", "render again"
            ) from error

    def note(self, timeline: str, settings: dict[str, Any]) -> None:
        """Write storyboard and settings as they were asked for; what lies there already is not believed.

        Raises TakeError, ResourceError: they cannot be written.
        """
        for path, data in (
            (self.timeline, timeline.encode("utf-8")),
            (self.settings, json_bytes(settings)),
        ):
            with on_disk(path, "noting what the film is made of"):
                if not own.is_file(path) or path.read_bytes() != data:
                    write_atomic(path, lambda part, data=data: part.write_bytes(data))

    def read_report(self) -> dict[str, Any]:
        """What `report.json` holds. Raises TakeError: the film was not finished yet, or the file is damaged."""
        if not os.path.lexists(self.report):
            raise TakeError(f"{self.folder.name} has no report yet", "render again: the film goes on")
        fields = {"film": dict, "reuse": dict, "seconds": dict, "speed": dict}
        return self._read(self.report, "report", lambda found: has_fields(found, fields))

    def save_report(self, report: dict[str, Any]) -> None:
        """Write `report.json`; the Take is held. Raises TakeError, ResourceError: it cannot be written."""
        with on_disk(self.report, "writing the report"):
            write_json(self.report, report)

    def records(self) -> list[Record]:
        """The journal's records, a torn last line dropped."""
        return read_journal(self.journal)

    def committed(self) -> list[Record]:
        """Records of committed chunks, in film order.

        Raises:
            TakeError: the journal is damaged, or another version made it.
        """
        records = self.records()
        if not all(map(is_whole, records)):
            raise TakeError(f"the journal of {self.folder} was made by another version", "render again")
        return [record for record in records if record["kind"] == "chunk"]

    def pictures(self, records: Sequence[Record]) -> int:
        """How many of these chunks, the film's first, lie in it to the byte, the header in front of them included.

        Raises OSError: it cannot be read.
        """
        begin = 0
        for count, record in enumerate(records):
            end = record["film_bytes"]
            # `None`, of a film that is too short, is no sum that a line can have.
            if own.checksum(self.film, begin, end) != (record.get("film_sum") or ""):
                return count
            begin = end
        return len(records)

    def check_film(self) -> None:
        """Refuse a film that is not what was rendered; one from before films had sums is believed.

        Raises TakeError: it is damaged or gone.
        """
        records = self.committed()
        try:
            whole = self.pictures(records) == len(records)
        except OSError as error:
            log.info("the film of %s cannot be read: %s", self.folder, reason(error))
            whole = False
        if not whole and not (records and "film_sum" not in records[0] and own.is_file(self.film)):
            raise TakeError(f"the film of {self.folder} is damaged or gone", "render again: it is made anew")

    def load_latents(self, index: int) -> Tensor:
        """Clean latents [f c h w] of a committed chunk, on the CPU.

        Raises TakeError: the file is missing or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            return load(own.read_file(self.latents(index)))["latents"]
        except (OSError, SafetensorError, KeyError) as error:
            raise TakeError(
                f"the latents of chunk {index} in {self.folder} cannot be read: {reason(error)}",
                "the file was removed or damaged: render the film again",
            ) from error


def runs_in(take: Path) -> list[Run]:
    """Every run in a Take's folder, oldest first; none where there is no such folder.

    Raises TakeError: it cannot be listed.
    """
    return [Run(path) for _, path in sorted(numbered(take)) if own.is_folder(path)]


def settings_in(take: Path) -> Iterator[dict[str, Any]]:
    """Those of every run that can be read, the newest first."""
    for run in reversed(runs_in(take)):
        with suppress(TakeError):  # of another version: said where runs are searched
            yield run.read_settings()


def numbered(take: Path) -> list[tuple[int, Path]]:
    """Number and place of all that is called like a run, whatever it is. Raises TakeError: `take` cannot be listed."""
    return [(int(match[1]), path) for path in own.listed(take) if (match := _RUN.fullmatch(path.name))]
