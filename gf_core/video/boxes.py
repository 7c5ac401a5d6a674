"""The few mp4 boxes that a growing film needs (ISO/IEC 14496-12): find whole fragments, place one in time.

A fragmented film is `ftyp moov (moof mdat)*`; every fragment here holds the frames of one write. What follows
the last whole fragment is a torn tail: a process died while it wrote.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

CONTAINERS = (b"moof", b"traf")
"""Boxes of boxes that are looked into."""
LEAST = {b"mfhd": 8, b"tfdt": 8, b"trun": 8}
"""Bytes that a box holds at least, where it is looked into or written to."""
MOST_EMPTY = 1000
"""Fragments without a sample that a film may have; a file of millions of them would be walked for minutes."""


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


def _walk(file: BinaryIO, stop: int) -> Iterator[tuple[bytes, int, int, int]]:
    """(kind, start, payload, end) of the boxes up to byte `stop`, parents first, until one is not whole."""
    start = 0
    while start + 8 <= stop:
        file.seek(start)
        head = file.read(16)
        if len(head) < 8:
            return
        (length, kind), payload = struct.unpack_from(">I4s", head), start + 8
        # A length of 1 says that 8 bytes of it follow the kind, 0 that the box goes to the end.
        if length == 1 and len(head) == 16:
            length, payload = struct.unpack_from(">Q", head, 8)[0], start + 16
        elif length == 0:
            length = stop - start
        end = start + length
        if not payload + LEAST.get(kind, 0) <= end <= stop:
            return
        yield kind, start, payload, end
        start = payload if kind in CONTAINERS else end


def _samples(file: BinaryIO, trun: int) -> int:
    """Samples that the `trun` with its payload at byte `trun` announces."""
    # Behind version and flags, 4 bytes.
    file.seek(trun + 4)
    return int.from_bytes(file.read(4), "big")


def read_layout(path: str | Path) -> FilmLayout:
    """Walk the boxes of `path`, headers only; what follows the first one that is not whole is no part of the film."""
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        header_end, begun, samples, empty = 0, -1, 0, 0
        fragments: list[Fragment] = []
        for kind, start, payload, end in _walk(file, size):
            if kind == b"moov":
                header_end = end
            elif kind == b"moof":
                begun, samples = start, 0
            elif kind == b"trun":
                samples += _samples(file, payload)
            elif kind == b"mdat" and begun >= 0:
                fragments.append(Fragment(begun, end, samples))
                begun, empty = -1, empty + (samples == 0)
                if empty > MOST_EMPTY:
                    break
    return FilmLayout(header_end, tuple(fragments), size)


def split_header(data: bytes) -> tuple[bytes, bytes, int]:
    """A small fragmented mp4 as its `ftyp moov` header, its fragments, and the samples in these."""
    file, split, samples = io.BytesIO(data), len(data), 0
    for kind, start, payload, _ in _walk(file, len(data)):
        if kind == b"moof":
            split = min(split, start)
        elif kind == b"trun":
            samples += _samples(file, payload)
    return data[:split], data[split:], samples


def place_fragment(data: bytes, sequence: int, decode_time: int) -> bytes:
    """The fragment `data` with its number (`mfhd`) and its start in media ticks (`tfdt`) set."""
    out = bytearray(data)
    for kind, _, at, _ in _walk(io.BytesIO(data), len(data)):
        # Both numbers lie behind version and flags, 4 bytes; version 1 has times of 8 bytes.
        if kind == b"mfhd":
            struct.pack_into(">I", out, at + 4, sequence)
        elif kind == b"tfdt":
            struct.pack_into(">Q" if data[at] == 1 else ">I", out, at + 4, decode_time)
        elif kind == b"mdat":
            break
    return bytes(out)
