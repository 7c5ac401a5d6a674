"""Picture metrics on made-up films."""

from __future__ import annotations

import numpy as np
import pytest

from gf_core.evaluation.measures import drift


def film(frames: int = 64, level: int = 100) -> np.ndarray:
    return np.full((frames, 64, 96, 3), level, np.uint8)


def test_a_still_film_does_not_flicker_and_a_blinking_one_does() -> None:
    still = film()
    blinking = film()
    blinking[::2] += 51
    assert drift.flicker(drift.frame_differences(still), 0, 64) == 0
    assert drift.flicker(drift.frame_differences(blinking), 0, 64) == pytest.approx(0.2)


def test_motion_of_the_subject_is_not_flicker() -> None:
    frames = film()
    boxes = np.zeros((64, 4), np.float32)
    for t in range(64):
        frames[t, 20:50, 10 + t // 2 : 30 + t // 2] = 255
        boxes[t] = 20 + t // 2, 35, 20, 30
    assert drift.frame_differences(frames, boxes).max() == 0
    assert drift.frame_differences(frames).max() > 0


def test_colour_drift_grows_with_the_shift() -> None:
    frames = film(64)
    frames[32:] = 140
    frames[48:] = 180
    values = drift.colour_drift(frames, 0, 64, 16)
    assert values[:2] == [0, 0]
    assert values[3] > values[2] > 0


def test_loudness_is_about_the_boundary_alone() -> None:
    frames = film()
    frames[1::2] += 4  # the usual change is 4
    frames[32:] += 80
    quiet, loud = drift.loudness(frames, [16, 32])
    assert quiet == pytest.approx(1.0)
    assert loud > 15


def test_then_stays_in_its_shot() -> None:
    assert drift.shots(["start", "then", "cut", "scene"], [0, 10, 20, 30], 40) == [
        (0, 20),
        (20, 30),
        (30, 40),
    ]
