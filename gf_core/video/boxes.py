"""The few mp4 boxes that a growing film needs (ISO/IEC 14496-12): find whole fragments, place one in time.

A fragmented film is `ftyp moov (moof mdat)*`; every fragment here holds the frames of one write. What follows
the last whole fragment is a torn tail: a process died while it wrote.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

CONTAINERS = (b"moof", b"traf", b"moov", b"trak", b"mdia", b"mvex")


@dataclass(frozen=True)
class Fragment:
    """One `moof mdat` pair."""

    offset: int
    """Byte where it starts."""
    end: int
    """Byte after it."""
    frames: int
    """Samples in it."""


@dataclass(frozen=True)
class FilmLayout:
    """What lies in an mp4 file."""

    header_end: int
    """Bytes of `ftyp moov` in front of the first fragment."""
    fragments: tuple[Fragment, ...]
    """Whole fragments in file order; empty in an ordinary mp4."""
    size: int
    """Bytes in the file."""

    @property
    def end(self) -> int:
        """Byte after the last whole fragment."""
        return self.fragments[-1].end if self.fragments else self.header_end

    @property
    def frames(self) -> int:
        """Frames in whole fragments."""
        return sum(fragment.frames for fragment in self.fragments)


def _box_at(file: BinaryIO, offset: int, size: int) -> tuple[bytes, int] | None:
    """(kind, end) of the box at `offset`, or None where there is no whole box header."""
    file.seek(offset)
    head = file.read(16)
    if len(head) < 8:
        return None
    length, kind = struct.unpack(">I4s", head[:8])
    if length == 1 and len(head) == 16:
        length = struct.unpack(">Q", head[8:])[0]
    elif length == 0:
        length = size - offset
    return (kind, offset + length) if length >= 8 else None


def read_layout(path: str | Path) -> FilmLayout:
    """Walk the top-level boxes of `path`; stops at the first box that is not whole. Reads headers only."""
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        offset, header_end, pending = 0, 0, None
        fragments: list[Fragment] = []
        while (box := _box_at(file, offset, size)) is not None:
            kind, end = box
            if end > size:
                break
            if kind == b"moov":
                header_end = end
            elif kind == b"moof":
                file.seek(offset)
                pending = (offset, count_samples(file.read(end - offset)))
            elif kind == b"mdat" and pending is not None:
                fragments.append(Fragment(pending[0], end, pending[1]))
                pending = None
            offset = end
    return FilmLayout(header_end, tuple(fragments), size)


def walk(data: bytes | bytearray, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """(kind, payload offset, end) of every box in `data`, going into containers, parents first."""
    offset, stop = start, len(data) if end is None else end
    while offset + 8 <= stop:
        length, kind = struct.unpack_from(">I4s", data, offset)
        payload = offset + 8
        if length == 1:
            length, payload = struct.unpack_from(">Q", data, offset + 8)[0], offset + 16
        if length < 8:
            return
        box_end = min(offset + length, stop)
        yield kind, payload, box_end
        if kind in CONTAINERS:
            yield from walk(data, payload, box_end)
        offset += length


def count_samples(moof: bytes) -> int:
    """Samples that a `moof` announces."""
    return sum(struct.unpack_from(">I", moof, at + 4)[0] for kind, at, _ in walk(moof) if kind == b"trun")


def split_header(data: bytes) -> tuple[bytes, bytes]:
    """Split a small fragmented mp4 into its `ftyp moov` header and its fragments."""
    for kind, payload, _ in walk(data):
        if kind == b"moof":
            return data[: payload - 8], data[payload - 8 :]
    return data, b""


def place_fragment(data: bytes, sequence: int, decode_time: int) -> bytes:
    """The fragment `data` with its number (`mfhd`) and its start in media ticks (`tfdt`) set."""
    out = bytearray(data)
    for kind, at, _ in walk(data):
        if kind == b"mfhd":
            struct.pack_into(">I", out, at + 4, sequence)
        elif kind == b"tfdt":
            struct.pack_into(">Q" if data[at] == 1 else ">I", out, at + 4, decode_time)
        elif kind == b"mdat":
            break
    return bytes(out)
