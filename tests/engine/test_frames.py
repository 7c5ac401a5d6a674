"""Frames to bytes, and small pictures for the preview."""

from __future__ import annotations

import numpy as np
import torch

from gf_core.vae.base import to_uint8
from gf_core.video.pixels import preview


def test_bytes_are_rounded_and_clamped():
    frames = torch.tensor([-0.5, 0.0, 0.4999 / 255, 0.5001 / 255, 1.0, 1.5]).view(1, 1, 2, 3)
    assert to_uint8(frames).ravel().tolist() == [0, 0, 0, 1, 255, 255]


def test_a_preview_is_small_keeps_every_frame_and_the_mean_colour():
    frames = np.random.default_rng(0).integers(0, 256, (5, 480, 832, 3), np.uint8)
    small = preview(frames)
    assert small.shape == (5, 120, 208, 3) and small.dtype == np.uint8
    assert abs(small.mean() - frames.mean()) < 1


def test_pictures_that_are_small_already_stay_as_they_are():
    frames = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), np.uint8)
    assert np.array_equal(preview(frames), frames)


def test_a_preview_of_a_film_lower_than_one_block_has_a_row():
    frames = np.full((3, 2, 1024, 3), 90, np.uint8)
    for narrow in (frames, frames.swapaxes(1, 2)):
        small = preview(narrow)
        assert sorted(small.shape) == [1, 3, 3, 256] and (small == 90).all()
