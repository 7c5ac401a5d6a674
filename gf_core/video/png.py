"""A PNG that is written strip by strip, so that a page of any length is never in memory whole."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
TRUE_COLOUR = (8, 2, 0, 0, 0)
"""8 bits a channel, RGB, and the only ways of packing and of filtering, not interlaced (ISO/IEC 15948, 11.2.2)."""
ZLIB, END = b"\x78\x01", b"\x03\x00"
"""What stands before all strips (RFC 1950, 2.2), and the empty block behind them."""
SUB = 1
"""A line as differences from the pixel on the left. Choosing among all filters for every line, as Pillow does, takes
twice as long for a sixth fewer bytes."""


ADLER = 65521
"""The prime of zlib's sum (RFC 1950, 9)."""


class Strip(NamedTuple):
    """A part of a page, as wide as the page, filtered and packed: it goes into any page of that width as it is."""

    width: int
    height: int
    total: int
    """Adler-32 of what is packed."""
    data: bytes
    """Deflated (RFC 1951), to a whole byte and without an end."""

    @property
    def size(self) -> int:
        """Bytes before packing."""
        return self.height * (1 + 3 * self.width)


def pack(image: Image.Image) -> Strip:
    """The strip of an RGB picture."""
    pixels = np.asarray(image).reshape(image.height, -1)  # h (w 3)
    lines = np.empty((image.height, 1 + pixels.shape[1]), np.uint8)  # h 1+3w
    # Every line begins with its filter; its first pixel has none on the left.
    lines[:, 0], lines[:, 1:4] = SUB, pixels[:, :3]
    # Modulo 256, as the filter has it.
    np.subtract(pixels[:, 3:], pixels[:, :-3], out=lines[:, 4:])
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    # To a whole byte, and nothing behind it looks back at this: so any strip can follow.
    data = packer.compress(lines.data) + packer.flush(zlib.Z_FULL_FLUSH)
    return Strip(image.width, image.height, zlib.adler32(lines.data), data)


def write_png(path: str | Path, strips: Iterable[Strip]) -> None:
    """Write `strips`, all of one width, below each other to the file `path`; what lay there is replaced.

    Each is asked for when the one before it is in the file.
    """
    total, width, height = 1, 0, 0
    with open(path, "wb") as file:

        def chunk(kind: bytes, data: bytes) -> None:
            file.write(
                struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            )

        def header() -> None:
            file.write(SIGNATURE)
            chunk(b"IHDR", struct.pack(">II5B", width, height, *TRUE_COLOUR))

        header()  # its place: the height is known at the end
        chunk(b"IDAT", ZLIB)
        for strip in strips:
            width, height = strip.width, height + strip.height
            chunk(b"IDAT", strip.data)
            total = joined(total, strip.total, strip.size)
        chunk(b"IDAT", END + struct.pack(">I", total))
        chunk(b"IEND", b"")
        file.seek(0)
        header()


def joined(total: int, other: int, size: int) -> int:
    """Adler-32 of bytes with the sum `total`, and `size` bytes with the sum `other` behind them."""
    # The low half sums bytes from 1 on, the high half the low one after every byte.
    low, high = total & 0xFFFF, total >> 16
    both = (low + (other & 0xFFFF) - 1) % ADLER
    return ((high + (other >> 16) + size * (low - 1)) % ADLER) << 16 | both
