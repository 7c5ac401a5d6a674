"""The film as a folder of still pictures: PNG for anyone, EXR for compositing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import av.codec.codec
import numpy as np
from PIL import Image, PngImagePlugin

from ..errors import ResourceError

Still = Literal["png", "exr"]
STILLS: tuple[Still, ...] = ("png", "exr")


def can_write(kind: str) -> bool:
    """Whether pictures of this kind can be written here: PNG always, EXR where PyAV has its encoder."""
    if kind != "exr":
        return kind == "png"
    try:
        return "gbrpf32le" in [form.name for form in av.codec.codec.Codec("exr", "w").video_formats or ()]
    except av.codec.codec.UnknownCodecError:
        return False


def write_pictures(
    frames: Iterable[np.ndarray], folder: Path, kind: Still, metadata: Mapping[str, str], fps: Fraction
) -> int:
    """Write uint8 [H W 3] `frames` to `folder` as 000000.png, ... and metadata.json beside them; returns how many.

    The first PNG carries the metadata too, where ComfyUI looks for a graph. EXR holds linear light (sRGB curve
    undone) as 32-bit floats.

    Raises:
        ResourceError: this PyAV cannot encode EXR.
    """
    if not can_write(kind):
        raise ResourceError("EXR pictures cannot be encoded by this PyAV build", "choose png, or prores")
    folder.mkdir(parents=True, exist_ok=True)
    encode = _Exr() if kind == "exr" else _Png(metadata)
    count = 0
    for frame in frames:
        encode.write(np.ascontiguousarray(frame), folder / f"{count:06d}.{kind}")
        count += 1
    facts = {"fps": str(fps), "frames": count, **metadata}
    text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
    (folder / "metadata.json").write_bytes(text.encode("utf-8"))
    return count


class _Png:
    def __init__(self, metadata: Mapping[str, str]) -> None:
        self._info: PngImagePlugin.PngInfo | None = PngImagePlugin.PngInfo()
        for key, value in metadata.items():
            self._info.add_text(key, value)

    def write(self, frame: np.ndarray, path: Path) -> None:
        Image.fromarray(frame).save(path, pnginfo=self._info, compress_level=4)
        self._info = None


class _Exr:
    def __init__(self) -> None:
        value = np.arange(256) / 255
        self._linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(
            np.float32
        )

    def write(self, frame: np.ndarray, path: Path) -> None:
        context = av.CodecContext.create("exr", "w")
        if not isinstance(context, av.VideoCodecContext):
            raise TypeError("exr is not a picture codec")
        context.height, context.width = frame.shape[:2]
        context.pix_fmt, context.time_base = "gbrpf32le", Fraction(1, 25)
        context.options = {"compression": "zip1"}
        picture = av.VideoFrame.from_ndarray(self._linear[frame], format="gbrpf32le")
        picture.pts = 0
        data = b"".join(bytes(packet) for part in (picture, None) for packet in context.encode(part))
        path.write_bytes(data)
