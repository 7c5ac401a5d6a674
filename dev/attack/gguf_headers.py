"""GGUF files by hand: those of other models, and headers that no converter writes."""

from __future__ import annotations

import struct
from collections.abc import Sequence


def gguf_header(
    values: Sequence[tuple[str, int, bytes]] = (),
    tensors: Sequence[tuple[str, list[int], int, int]] = (),
    version: int = 3,
    counts: tuple[int, int] | None = None,
    body: int = 0,
) -> bytes:
    """A GGUF file by hand; values: (key, kind, bytes); tensors: (name, axes, packing, offset)."""

    def text(name: str) -> bytes:
        return struct.pack("<Q", len(name)) + name.encode()

    n_tensors, n_values = counts or (len(tensors), len(values))
    out = b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_values)
    for key, kind, raw in values:
        out += text(key) + struct.pack("<I", kind) + raw
    for name, dims, kind, offset in tensors:
        out += text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)
    return out + bytes(-len(out) % 32 + body)


def said(name: str) -> tuple[str, int, bytes]:
    """The value that names an architecture."""
    return ("general.architecture", 8, struct.pack("<Q", len(name)) + name.encode())


OTHERS: dict[str, tuple[bytes, str]] = {
    "another architecture": (gguf_header([said("flux")]), "architecture flux, no part of Wan"),
    "a language model": (gguf_header([said("llama")]), "architecture llama"),
    "a packing": (gguf_header([said("wan")], [("a", [256], 19, 0)], body=500), "stores a as IQ1_S, which is not read"),
    "a new packing": (gguf_header([said("wan")], [("a", [256], 77, 0)], body=500), "packing number 77"),
    "an old version": (gguf_header(version=1), "version 1"),
    "one of several": (gguf_header([said("wan"), ("split.count", 2, b"\3\0")]), "one of 3 pieces"),
}  # fmt: skip
"""Files that are sound and not read, with a pattern of what is said of them."""

BIG = struct.pack("<Q", 2**63)
HOSTILE: dict[str, bytes] = {
    "tensors": gguf_header(counts=(2**64 - 1, 0)),
    "values": gguf_header(counts=(0, 2**64 - 1)),
    "many tensors": gguf_header(counts=(40_000, 0), body=10_000_000),
    "a name": gguf_header(counts=(1, 0), body=0)[:24] + BIG,
    "a long name": gguf_header([("k" * 5000, 0, b"\0")]),
    "a text": gguf_header([("k", 8, BIG)]),
    "a list": gguf_header([("k", 9, struct.pack("<IQ", 4, 2**63))]),
    "a list of bytes": gguf_header([("k", 9, struct.pack("<IQ", 0, 2**40))]),
    "texts": gguf_header([("k", 9, struct.pack("<IQ", 8, 2**63))]),
    "empty texts": gguf_header([("k", 9, struct.pack("<IQ", 8, 900_000))], body=8_000_000, counts=(0, 2)),
    "a list of lists": gguf_header([("k", 9, struct.pack("<IQ", 9, 10**6))], body=10**7),
    "a kind": gguf_header([("k", 99, b"")]),
    "axes": gguf_header(tensors=[("a", [1] * 17, 0, 0)], body=64),
    "a long axis": gguf_header(tensors=[("a", [2**63, 2], 0, 0)], body=64),
    "long axes": gguf_header(tensors=[("a", [2**40] * 16, 0, 0)], body=64),
    "an offset": gguf_header(tensors=[("a", [4], 0, 2**63)], body=64),
    "an odd offset": gguf_header(tensors=[("a", [4], 0, 1)], body=64),
    "one over another": gguf_header(tensors=[("a", [16], 0, 0), ("b", [16], 0, 32)], body=256),
    "two of one name": gguf_header(tensors=[("a", [4], 0, 0), ("a", [4], 0, 32)], body=256),
    "part of a block": gguf_header(tensors=[("a", [33], 8, 0)], body=256),
    "an empty row": gguf_header(tensors=[("a", [0], 8, 0)], body=64),
    "no axis": gguf_header(tensors=[("a", [], 8, 0)], body=256),
    "no alignment": gguf_header([("general.alignment", 4, bytes(4))], [("a", [4], 0, 0)], body=64),
    "a huge alignment": gguf_header([("general.alignment", 4, b"\xf8\xff\xff\xff")], [("a", [4], 0, 0)], body=64),
    "an alignment in words": gguf_header([("general.alignment", 8, bytes(8))], [("a", [4], 0, 0)], body=64),
    "not whole": gguf_header(tensors=[("a", [4096], 0, 0)], body=64),
    "only its name": b"GGUF", "half a count": b"GGUF\3\0\0\0\1\0",
}  # fmt: skip
"""Files that no converter writes."""
