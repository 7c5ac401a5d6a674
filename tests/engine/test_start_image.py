"""Pictures that films start from: the right brightness whatever the numbers, and words for what is no picture."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import DTypeLike
from PIL import Image, PngImagePlugin

from gf_core.config import VideoSpec
from gf_core.engine.given.image import open_start_image
from gf_core.errors import GroundedError

RAMP = np.tile(np.linspace(0, 1, 96), (64, 1))
SIZE = VideoSpec(96, 64)


def whole(most, kind: DTypeLike = np.uint16):
    return np.round(RAMP * most).astype(kind)


def tiff(path, bits, photometric, data, sample_format=1):
    """An uncompressed grey TIFF of 96x64."""
    values = [96, 64, bits, 1, photometric, 8 + 2 + 10 * 12 + 4, 1, 64, len(data), sample_format]
    names = [256, 257, 258, 259, 262, 273, 277, 278, 279, 339]
    long = {273, 279}
    head = b"II*\0" + struct.pack("<IH", 8, 10)
    for name, value in zip(names, values):
        head += struct.pack("<HHII", name, 4 if name in long else 3, 1, value)
    path.write_bytes(head + bytes(4) + data)


def packed12(values):
    pairs = values.ravel().astype(int).reshape(-1, 2)
    return b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in pairs)


def netpbm(path, magic, values, most):
    path.write_bytes(f"{magic}\n96 64\n{most}\n".encode() + values.astype(">u2").tobytes())


MAKERS = {
    "16 bits.png": lambda path: Image.fromarray(whole(65535)).save(path),
    "16 bits.tif": lambda path: Image.fromarray(whole(65535)).save(path),
    "16 bits.jp2": lambda path: Image.fromarray(whole(65535)).save(path),
    "16 bits.pgm": lambda path: Image.fromarray(whole(65535)).save(path),
    "10 bits.pgm": lambda path: netpbm(path, "P5", whole(1023), 1023),
    "10 bits.ppm": lambda path: netpbm(path, "P6", whole(1023)[..., None].repeat(3, 2), 1023),
    "12 bits.tif": lambda path: tiff(path, 12, 1, packed12(whole(4095))),
    "16 bits signed.tif": lambda path: tiff(path, 16, 1, (whole(65535, "<i4") - 32768).astype("<i2").tobytes(), 2),
    "16 bits, white is zero.tif": lambda path: tiff(path, 16, 0, whole(65535)[:, ::-1].astype("<u2").tobytes()),
    "32 bits.tif": lambda path: tiff(path, 32, 1, whole(2**32 - 1, "<u4").tobytes()),
    "floats.tif": lambda path: Image.fromarray(RAMP.astype(np.float32)).save(path),
    "floats to 255.tif": lambda path: Image.fromarray((RAMP * 255).astype(np.float32)).save(path),
    "floats beyond.tif": lambda path: Image.fromarray((RAMP * 1e6).astype(np.float32)).save(path),
    "floats.pfm": lambda path: path.write_bytes(b"Pf\n96 64\n-1.0\n" + RAMP.astype("<f4").tobytes()),
    "8 bits.png": lambda path: Image.fromarray(whole(255, np.uint8)).save(path),
    "inks.jpg": lambda path: Image.fromarray(whole(255, np.uint8)).convert("CMYK").save(path, quality=100),
    "inks.tif": lambda path: Image.fromarray(whole(255, np.uint8)).convert("CMYK").save(path),
}  # fmt: skip


@pytest.mark.parametrize("name", MAKERS)
def test_every_depth_arrives_with_its_brightness(tmp_path, name):
    MAKERS[name](tmp_path / name)
    shown = open_start_image(tmp_path / name, SIZE).numpy()
    assert shown.shape == (1, 64, 96, 3)
    assert np.abs(shown[0] - RAMP[..., None]).max() < 0.015


def half_clear(mode):
    """Red on the left; on the right nothing, over hidden noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 4), dtype=np.uint8)
    pixels[:, :48] = (255, 0, 0, 255)
    pixels[:, 48:, 3] = 0
    return Image.fromarray(pixels).convert(mode)


def clear_grey(path):
    """16-bit grey whose value 7 is declared transparent."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    values = np.full((64, 96), 7, ">u2")
    values[:, :48] = 0
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    head = struct.pack(">IIBBBBB", 96, 64, 16, 0, 0, 0, 0)
    parts = [(b"IHDR", head), (b"tRNS", b"\0\7"), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))


@pytest.mark.parametrize(
    "name", ["rgba.png", "la.png", "rgba.webp", "rgba.tif", "p.png", "p.gif", "grey16.png"]
)
def test_what_is_transparent_becomes_white_and_that_is_said(tmp_path, caplog, name):
    caplog.set_level("INFO", "grounded")
    if name == "grey16.png":
        clear_grey(tmp_path / name)
    else:
        mode = {"la": "LA", "p": "P"}.get(name.partition(".")[0], "RGBA")
        picture = half_clear("RGBA" if mode == "P" else mode)
        more: dict[str, Any] = {"lossless": True} if name.endswith("webp") else {}
        (picture.quantize(8) if name == "p.png" else picture).save(tmp_path / name, **more)
    shown = open_start_image(tmp_path / name, SIZE)[0]
    assert shown[:, 60:].min() > 0.99 and shown[:, :36, 1].max() < 0.35
    assert ["become white" in line for line in caplog.messages] == [True]


def test_a_picture_that_only_could_be_transparent_is_as_it_was(tmp_path, caplog):
    caplog.set_level("INFO", "grounded")
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 4), dtype=np.uint8)
    pixels[..., 3] = 255
    Image.fromarray(pixels).save(tmp_path / "solid.png")
    assert np.array_equal(open_start_image(tmp_path / "solid.png", SIZE)[0] * 255, pixels[..., :3])
    assert not caplog.messages


def described(path, kind):
    info = PngImagePlugin.PngInfo()
    if kind == "profile":
        return Image.new("RGB", (96, 64), "teal").save(path, icc_profile=bytes(3_000_000))
    for number in range(80 if kind == "many" else 1):
        size = 1_000_000 if kind == "many" else 2_000_000
        if kind == "international":
            info.add_itxt("workflow", "x" * size, zip=True)
        else:
            info.add_text(f"workflow {number}", "x" * size, zip=True)
    Image.new("RGB", (96, 64), "teal").save(path, pnginfo=info)


@pytest.mark.parametrize("kind", ["text", "international", "many", "profile"])
def test_what_a_picture_says_of_itself_does_not_matter(tmp_path, kind):
    described(tmp_path / "a.png", kind)
    shown = open_start_image(tmp_path / "a.png", SIZE) * 255
    assert shown[0, 9, 9].tolist() == [0, 128, 128]


def broken_exif(path):
    Image.new("RGB", (96, 64), "teal").save(path, exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage")


def test_damage_that_does_not_matter_makes_no_noise(tmp_path, monkeypatch):
    broken_exif(tmp_path / "exif.jpg")
    MAKERS["8 bits.png"](tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 96 * 64 - 1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert open_start_image(tmp_path / "exif.jpg", SIZE).shape == (1, 64, 96, 3)
        assert open_start_image(tmp_path / "large.png", SIZE).max() == 1
    assert not caught


BAD = {
    "none.png": (lambda path: None, "cannot be read"),
    "bomb.png": (MAKERS["8 bits.png"], "too large: more than 2,000 pixels"),
    "text.png": (lambda path: path.write_text("no picture"), "cannot be read"),
    "empty.png": (lambda path: path.write_bytes(b""), "cannot be read"),
    "folder.png": (lambda path: path.mkdir(), "not a file"),
    "pipe.png": (lambda path: os.mkfifo(path), "not a file"),
    "x" * 300 + ".png": (lambda path: None, "cannot be read"),
    "program.png": (
        lambda path: path.write_text(
            "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n"
        ),
        "it is PostScript",
    ),
    "cut.png": (
        lambda path: (clear_grey(path), path.write_bytes(path.read_bytes()[:70])),
        "cannot be read",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_picture_is_said_in_words(tmp_path, monkeypatch, name):
    if name == "bomb.png":
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    make, words = BAD[name]
    if name == "pipe.png" and not hasattr(os, "mkfifo"):
        pytest.skip("no pipes with names here")
    make(tmp_path / name)
    with pytest.raises(GroundedError, match=words):
        open_start_image(tmp_path / name, SIZE)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "gif", "bmp", "jp2", "tga", "pcx", "ico"])
def test_a_mutated_picture_opens_or_is_refused(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(whole(255, np.uint8)).convert("RGB").save(path)
    data, rng = path.read_bytes(), np.random.default_rng(3)
    for _ in range(40):
        changed = bytearray(data)
        for place in rng.integers(0, min(len(data), 600), 4):
            changed[place] = rng.integers(0, 256)
        path.write_bytes(changed[: rng.integers(1, len(data) + 1)])
        try:
            assert open_start_image(path, SIZE).shape == (1, 64, 96, 3)
        except GroundedError as error:
            assert str(error).count("\n") == 1
