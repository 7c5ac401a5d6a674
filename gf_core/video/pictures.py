"""The film as a folder of still pictures: PNG for anyone, EXR for compositing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Literal, cast

import av
import numpy as np
from PIL import Image, PngImagePlugin

from ..errors import ResourceError
from ..files.atomic import json_bytes
from .codecs import find_encoder

Still = Literal["png", "exr"]
STILLS: tuple[Still, ...] = ("png", "exr")


def can_write(kind: str) -> bool:
    """Whether pictures of this kind can be written here: PNG always, EXR where PyAV has its encoder."""
    encoder = find_encoder("exr")
    formats = encoder.video_formats if encoder else None
    return kind == "png" or (kind == "exr" and "gbrpf32le" in [form.name for form in formats or ()])


def write_pictures(
    frames: Iterable[np.ndarray], folder: Path, kind: Still, metadata: Mapping[str, str], fps: Fraction
) -> int:
    """Write uint8 [H W 3] `frames` to `folder` as 000000.png, ... and metadata.json beside them; returns how many.

    The first PNG carries the metadata too, where ComfyUI looks for a graph. EXR holds linear light (sRGB curve
    undone) as 32-bit floats.

    Raises ResourceError: this PyAV cannot encode EXR.
    """
    if not can_write(kind):
        raise ResourceError("EXR pictures cannot be encoded by this PyAV build", "choose png, or prores")
    folder.mkdir(parents=True, exist_ok=True)
    info, count = PngImagePlugin.PngInfo(), 0
    for key, value in metadata.items():
        info.add_text(key, value)
    for frame in map(np.ascontiguousarray, frames):
        path = folder / f"{count:06d}.{kind}"
        if kind == "exr":
            path.write_bytes(_exr(frame))
        else:
            Image.fromarray(frame).save(path, pnginfo=None if count else info, compress_level=4)
        count += 1
    facts = {"fps": str(fps), "frames": count, **metadata}
    (folder / "metadata.json").write_bytes(json_bytes(facts))
    return count


@cache
def _linear() -> np.ndarray:
    """Linear light float32 [256] of every 8-bit sRGB value."""
    value = np.arange(256) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _exr(frame: np.ndarray) -> bytes:
    """The file of one picture, uint8 [H W 3]."""
    context = cast(av.VideoCodecContext, av.CodecContext.create("exr", "w"))
    context.height, context.width = frame.shape[:2]
    context.pix_fmt, context.time_base = "gbrpf32le", Fraction(1, 25)
    context.options = {"compression": "zip1"}
    picture = av.VideoFrame.from_ndarray(_linear()[frame], format="gbrpf32le")
    picture.pts = 0
    return b"".join(bytes(packet) for part in (picture, None) for packet in context.encode(part))
