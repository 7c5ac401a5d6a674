"""The journal of a run: append-only lines of JSON, each with its own checksum.

A line is written after everything that it speaks of is on disk, so a chunk with a line can be trusted. A kill
can tear the last line only; it is recognised by its checksum and dropped.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import TakeError, reason
from ..files.atomic import on_disk
from ..foreign import read_json
from .own import read_file

log = logging.getLogger("grounded")

Record = dict[str, Any]


def encode_record(record: Record) -> bytes:
    """One line: the record with its CRC-32 as the last field, `sum`.

    Raises TakeError: the record holds a value that JSON has no exact form for, or a field called `sum`.
    """
    if "sum" in record:
        raise TakeError("a journal record may not have a field called 'sum'", "rename the field")
    try:
        body = json.dumps(record, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise TakeError(
            f"a journal record cannot be written as JSON: {error}", "store plain finite values"
        ) from error
    return f'{body[:-1]},"sum":"{zlib.crc32(body.encode("ascii")):08x}"}}\n'.encode("ascii")


def decode_record(line: bytes) -> Record | None:
    """The record in a line, or None when the line is torn or changed."""
    body, mark, tail = line.rpartition(b',"sum":"')
    # Eight digits and the end of the line: one that lacks its end is torn.
    if not mark or len(tail) != 11 or tail[8:] != b'"}\n':
        return None
    # As it was summed, with the brace that closes it.
    body += b"}"
    if f"{zlib.crc32(body):08x}".encode("ascii") != tail[:8]:
        return None
    try:
        return read_json(body)
    except ValueError:
        return None


@dataclass(frozen=True)
class Scan:
    """What a journal holds up to its first line that is not whole."""

    records: list[Record]
    size: int
    """Bytes of these records' lines."""
    bad_line: int | None
    """Number, from 1, of the first line that is torn or changed."""
    torn: bool
    """That line is the last: a kill cut it short."""
    later: list[Record]
    """Whole lines behind that one: what they say is true, but something is missing between."""

    @property
    def ended(self) -> bool:
        """The run came to the end that was asked for."""
        return bool(self.records) and self.records[-1]["kind"] == "end" and not self.records[-1]["cancelled"]


def scan_journal(path: Path) -> Scan:
    """Read a journal as far as it can be trusted. Raises OSError: the file cannot be read."""
    lines = read_file(path).splitlines(keepends=True)
    records = [decode_record(line) for line in lines]
    bad = records.index(None) if None in records else None
    before = [record for record in records[:bad] if record is not None]
    later = [] if bad is None else [record for record in records[bad:] if record is not None]
    size = sum(map(len, lines[:bad]))
    number = None if bad is None else bad + 1
    return Scan(before, size, number, number == len(lines), later)


def read_journal(path: Path) -> list[Record]:
    """Every record of a journal; a torn last line is dropped with one line in the log.

    Raises TakeError: a line that is not the last is damaged, or the file cannot be read.
    """
    try:
        scan = scan_journal(path)
    except OSError as error:
        raise TakeError(
            f"the journal {path} cannot be read: {reason(error)}", "render the film again"
        ) from error
    if scan.torn:
        log.warning("journal %s: line %d was cut short by a kill and is dropped", path, scan.bad_line)
    elif scan.bad_line is not None:
        raise TakeError(
            f"line {scan.bad_line} of the journal {path} is damaged",
            "the disk or another program changed it: render the film again",
        )
    return scan.records


class Journal:
    """A journal open for appending."""

    def __init__(self, path: Path, keep: int | None = None) -> None:
        """Create `path`, which must not exist yet; or with `keep`, go on after that many bytes of it.

        Raises TakeError: it exists (or with `keep`, does not), or cannot be written.
        """
        self.path, self._lock = path, threading.Lock()
        with on_disk(path, "starting the journal"):
            self._file = open(path, "xb" if keep is None else "r+b", buffering=0)  # noqa: SIM115 (see close())
            if keep is not None:
                self._file.truncate(keep)
                self._file.seek(keep)

    def append(self, *records: Record) -> None:
        """Write records and push them to the disk before returning; all of them or none. From any thread.

        Raises ResourceError: the disk is full. TakeError: any other trouble with the file.
        """
        lines = b"".join(encode_record(record) for record in records)
        with self._lock, on_disk(self.path, "writing the journal"):
            end = self._file.tell()
            try:
                # An unbuffered write may stop short instead of failing.
                if self._file.write(lines) != len(lines):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(self._file.fileno())
            except OSError:
                self._take_back(end)
                raise

    def _take_back(self, end: int) -> None:
        """Remove a half-written line, so that the lines that may follow start clean."""
        try:
            self._file.truncate(end)
            self._file.seek(end)
        except OSError:
            log.warning("journal %s: the last line is torn and could not be removed", self.path)

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._file.close()
