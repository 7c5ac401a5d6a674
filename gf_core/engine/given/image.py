"""A picture that a film is given, to start from or of its cast: opened, cropped to the film's shape, scaled."""

from __future__ import annotations

import io
import logging
import os
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ...config import VideoSpec
from ...errors import GroundedError, is_out_of_memory, reason

log = logging.getLogger("grounded")

DESCRIBING = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
"""Chunks of a PNG that say something about the picture, and can be packed."""
WHITES = {"F": (1.0, 255.0, 65535.0), "I": (65535.0, 2.0**31 - 1, 2.0**32 - 1)}
"""What can be white in numbers of a mode; a picture's own is the first that its brightest pixel does not exceed."""


def open_start_image(path: str | Path, video: VideoSpec, what: str = "start image") -> Tensor:
    """The picture at `path` as frames [1 H W 3] in 0..1 of the film's size; what overhangs is cut evenly.

    More than 8 bits, and floats, are scaled to 8; what is transparent becomes white, and a log line says so.
    `what` it is called in errors.

    Raises GroundedError: no readable picture there.
    """
    path = Path(path)
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for
        raise GroundedError(f"the {what} {path} is not a file", "give a PNG or JPEG file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, about large pictures and damage that it can live with
            picture = _read(path)
    except Image.DecompressionBombError as error:
        raise GroundedError(
            f"the {what} {path} is too large: more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels",
            f"make it smaller; the film has {video.width}x{video.height}",
        ) from error
    except Exception as error:  # Pillow's readers raise what they like
        if is_out_of_memory(error):
            raise
        raise GroundedError(
            f"the {what} {path} cannot be read: {reason(error)}",
            "give a PNG or JPEG file",
        ) from error
    fitted = ImageOps.fit(picture, (video.width, video.height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(fitted, dtype=np.float32) / 255)[None]


def _read(path: Path) -> Image.Image:
    """The picture upright, in RGB."""
    try:
        return _upright(path)
    except ValueError:  # among others: its text unpacks to more than Pillow takes
        data = path.read_bytes()
        if not data.startswith(b"\x89PNG"):
            raise
        return _upright(io.BytesIO(_undescribed(data)))


def _upright(source: Path | io.BytesIO) -> Image.Image:
    with Image.open(source) as image:
        if image.format == "EPS":  # a program: Pillow would have Ghostscript run it, for as long as it likes
            raise ValueError("it is PostScript")
        image.load()
        try:
            turned = ImageOps.exif_transpose(image)
        except Exception as error:  # as above: of a picture that itself can be read
            log.info("how a picture is turned cannot be read: %s", error)
            turned = image
        if turned.mode.startswith("I") or turned.mode == "F":
            turned = _scaled(turned, image)
    if "A" not in turned.getbands() and "transparency" not in turned.info:
        return turned.convert("RGB")
    turned = turned.convert("RGBA")
    if turned.getchannel("A").getextrema()[0] == 255:  # nothing shows through
        return turned.convert("RGB")
    log.info("a picture is transparent in parts: they become white")
    return Image.alpha_composite(Image.new("RGBA", turned.size, "white"), turned).convert("RGB")


def _scaled(image: Image.Image, opened: Image.Image) -> Image.Image:
    """8 bits of a picture in 12, 16 or 32 bits, or floats; `opened` is the same as its file gave it."""
    # Tags of TIFF: 258 is the bits of a number, 262 what is white, 339 the kind of number (2 has a sign).
    values, tags = np.nan_to_num(np.asarray(image)), getattr(opened, "tag_v2", {})
    if values.min() < 0 and image.mode == "I":  # signed numbers, or larger ones than Pillow's hold
        values = values - values.min() if 2 in tags.get(339, ()) else values.view(np.uint32)
    if image.mode.startswith("I;16"):
        white = 4095.0 if tags.get(258) == (12,) else 65535.0
    else:
        top = float(values.max())
        white = next((most for most in WHITES[image.mode] if top <= most), top)
    shares = np.clip(values.astype(np.float64) / white, 0, 1)
    if tags.get(262) == 0:  # TIFF's "white is zero", which Pillow turns around in 8 bits only
        shares = 1 - shares
    grey = Image.fromarray((shares * 255 + 0.5).astype(np.uint8))
    if isinstance(clear := image.info.get("transparency"), int):
        grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return grey


def _undescribed(png: bytes) -> bytes:
    """`png` without what describes it: a packed description may unpack to gigabytes."""
    kept, at = [png[:8]], 8
    while at < len(png):
        # A chunk is its length (4 bytes), its kind (4), as many bytes as that length, and a sum (4).
        end = at + 12 + int.from_bytes(png[at : at + 4], "big")
        if png[at + 4 : at + 8] not in DESCRIBING:
            kept.append(png[at:end])
        at = end
    return b"".join(kept)
