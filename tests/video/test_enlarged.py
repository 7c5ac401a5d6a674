"""Small pictures enlarged into a film's frames: against the same done in floating point, without any rounding."""

import numpy as np
import pytest
from PIL import Image

from gf_core.config import Encoding, VideoSpec
from gf_core.take.facts import picture_facts
from gf_core.video.pixels import ToRgb, ToVideo, upscaled

FACTOR = 8
RED, GREEN, BLUE = 0.2126, 0.7152, 0.0722


def blurred(height=32, width=48):
    """Smooth colours with a few edges, such as a model makes."""
    rng = np.random.default_rng(3)
    coarse = Image.fromarray(rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8))
    picture = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).copy()
    picture[8:20, 10:24] = (200, 60, 30)
    return picture


def lanczos(count):
    """[count * FACTOR, count]: weights of Lanczos with three lobes, pixel centres in line."""
    at = (np.arange(count * FACTOR)[:, None] + 0.5) / FACTOR - (np.arange(count)[None] + 0.5)
    weights = np.where(np.abs(at) < 3, np.sinc(at) * np.sinc(at / 3), 0)
    return weights / weights.sum(1, keepdims=True)


def exact(small):
    down, across = (lanczos(size) for size in small.shape[:2])
    return np.clip(np.einsum("ij,jkc,lk->ilc", down, small.astype(float), across), 0, 255)


def decibels(frame, wanted):
    return 10 * np.log10(255**2 / np.mean((ToRgb()(frame) - wanted) ** 2))


def test_it_is_nearer_to_the_exact_picture_than_enlarging_rgb_first():
    small = blurred()
    wanted = exact(small)
    one_pass = decibels(ToVideo("yuv420p", FACTOR)(small), wanted)
    rgb_first = decibels(ToVideo("yuv420p")(upscaled(small, FACTOR)), wanted)
    assert one_pass > rgb_first and one_pass > 40


@pytest.mark.parametrize("size", [(17, 33), (16, 33), (17, 32)])
@pytest.mark.parametrize("factor", [1, 3])
def test_an_odd_edge_is_repeated_and_nothing_stretched(size, factor):
    small = np.full((*size, 3), 200, np.uint8)
    small[: size[0] // 2] = 20
    frame = ToVideo("yuv420p", factor)(small)
    height, width = (side * factor + side * factor % 2 for side in size)
    rgb = ToRgb()(frame)
    assert rgb.shape == (height, width, 3)
    edge = size[0] // 2 * factor
    assert rgb[: edge - factor - 1].mean() < 30 and rgb[edge + factor + 1 :].min() > 180


def test_a_film_enlarged_another_way_is_not_gone_on_with():
    """Those of the version before had their pictures enlarged before they were converted."""
    video = VideoSpec(64, 48)
    plain, large = (picture_facts("codec", Encoding(upscale=times), video)["options"] for times in (1, 2))
    assert large.pop("enlarged") == "in YUV" and "enlarged" not in plain
