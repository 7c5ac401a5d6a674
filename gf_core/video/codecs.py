"""The video codecs a film can be written in, and which of them this machine's PyAV can encode."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from av.codec.codec import Codec, UnknownCodecError

from ..devices import vectors
from ..errors import ResourceError, TakeError

log = logging.getLogger("grounded")


@dataclass(frozen=True)
class CodecChoice:
    """One codec as PyAV wants it. Frames are never reordered (no B-frames): a fragment must decode alone."""

    encoders: tuple[str, ...]
    """Encoder names, best first."""
    options: Callable[[str, int, bool, int], dict[str, str]]
    """(encoder, quality, enlarged, side) -> encoder options; quality is on the H.264 CRF scale, enlarged that each
    pixel of the model is several of the film, side the shorter one of the film's pictures."""
    container: str = "mp4"
    """Container format that a growing film has."""
    suffixes: tuple[str, ...] = (".mp4", ".mov", ".mkv")
    """Of files that can hold it; the first is its own."""
    pix_fmt: str = "yuv420p"
    """Pixel format."""
    tag: str | None = None
    """Four-character code where players insist on one."""


BLOCK = 64
"""Side of x265's usual blocks. Where a picture is one row or column of them, it reads memory that nobody wrote, and no
two films are alike (dev/LOG.md)."""


@cache
def _wide_vectors() -> bool:
    """Whether this processor has AVX-512, as far as numpy says."""
    return any(name == "X86_V4" or name.startswith("AVX512") for name in vectors().get("found", []))


def _h264(_: str, quality: int, enlarged: bool, side: int) -> dict[str, str]:
    # At the same CRF `faster` makes the files of `medium` (1 % smaller, 0.03 dB less) in 40 % of the time; `veryfast`
    # loses half a decibel (dev/LOG.md).
    # With AVX-512, x264 now and then made another stream of the same pictures while a model ran in the same process
    # (dev/LOG.md); its AVX2 code makes the usual bytes every time.
    params = ["asm=AVX2"] if _wide_vectors() else []
    # Nothing smaller than a block of 16 moves by itself in an enlarged picture, nor by less than half a pixel: without
    # looking for it there are 3 % fewer bytes and 0.06 dB more in 65 % of the time (docs/benchmarks/2026-11-26-cpu.md).
    params += ["partitions=i8x8", "subme=2"] if enlarged else []
    # As many as x264 takes itself where there are two processors: another number makes other bytes, so that a film that
    # goes on where there are more or fewer would not be the one that was begun.
    options = {"crf": str(quality), "preset": "faster", "bf": "0", "threads": "3"}
    return {**options, "x264-params": ":".join(params)} if params else options


def _hevc(_: str, quality: int, enlarged: bool, side: int) -> dict[str, str]:
    # Without x265's own pools of threads, which wait for each other for seconds a chunk where the machine is busy, and
    # make other bytes on a machine with other cores; four frames at a time are enough for what is made here.
    params = "bframes=0:log-level=error:pools=none:frame-threads=4"
    if side <= BLOCK:
        params += ":ctu=16"
    return {"crf": str(quality + 2), "preset": "fast", "x265-params": params}


def _av1(encoder: str, quality: int, enlarged: bool, side: int) -> dict[str, str]:
    # SVT-AV1 prints its settings at every start, so at every chunk; only the environment can tell it not to.
    os.environ.setdefault("SVT_LOG", "1")
    crf = str(min(quality + 10, 63))
    if encoder == "libsvtav1":
        return {"crf": crf, "preset": "8"}
    return {"crf": crf, "cpu-used": "6", "lag-in-frames": "0"}


def _prores(_: str, quality: int, enlarged: bool, side: int) -> dict[str, str]:
    return {"profile": "3" if quality <= 18 else "2"}


CODECS: dict[str, CodecChoice] = {
    "h264": CodecChoice(("libx264",), _h264),
    "hevc": CodecChoice(("libx265",), _hevc, tag="hvc1"),
    "hevc 10-bit": CodecChoice(("libx265",), _hevc, pix_fmt="yuv420p10le", tag="hvc1"),
    # QuickTime's files have no name for AV1.
    "av1": CodecChoice(("libsvtav1", "libaom-av1"), _av1, suffixes=(".mp4", ".mkv")),
    "av1 10-bit": CodecChoice(("libsvtav1",), _av1, pix_fmt="yuv420p10le", suffixes=(".mp4", ".mkv")),
    "prores": CodecChoice(
        ("prores_ks",), _prores, container="mov", pix_fmt="yuv422p10le", suffixes=(".mov", ".mkv")
    ),
}


SUFFIXES = CodecChoice.suffixes
"""Of films."""


def suffix_for(name: str) -> str:
    """The suffix of a film in codec `name`: `.mp4`, `.mov` for ProRes; an unknown codec gets `.mp4`."""
    choice = CODECS.get(name)
    return choice.suffixes[0] if choice else ".mp4"


def check_suffix(file: Path, name: str) -> None:
    """Refuse a file that a film in codec `name` does not go into; an unknown codec is taken for one of mp4.

    Raises TakeError: with the suffixes that do.
    """
    suffixes = CODECS[name].suffixes if name in CODECS else SUFFIXES
    if file.suffix.lower() not in suffixes:
        raise TakeError(
            f"{file.name} cannot be saved: a film in {name} does not go into a file called {file.suffix}",
            f"use {', '.join(suffixes)}",
        )


def find_encoder(name: str) -> Codec | None:
    """The encoder called `name`, where this PyAV was built with it."""
    try:
        return Codec(name, "w")
    except UnknownCodecError:
        return None


def available_codecs() -> list[str]:
    """Names in `CODECS` that this PyAV build can encode."""
    return [
        name for name, choice in CODECS.items() if any(find_encoder(encoder) for encoder in choice.encoders)
    ]


def find_codec(name: str) -> tuple[str, CodecChoice]:
    """(encoder name, choice) for codec `name`.

    Raises ResourceError: unknown name, or this PyAV was built without an encoder for it.
    """
    choice = CODECS.get(name)
    usable = [encoder for encoder in choice.encoders if find_encoder(encoder)] if choice else []
    if choice is None or not usable:
        why = "is not a known video codec" if choice is None else "cannot be encoded by this PyAV build"
        raise ResourceError(f"codec {name!r} {why}", f"choose one of: {', '.join(available_codecs())}")
    if usable[0] != choice.encoders[0]:
        log.info("codec %s: %s is missing, encoding with %s", name, choice.encoders[0], usable[0])
    return usable[0], choice
