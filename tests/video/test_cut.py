"""A part of a film: the same pictures, from time 0 on."""

from __future__ import annotations

import av
import numpy as np
import pytest

from gf_core.errors import TakeError
from gf_core.video import cut_out, read_frames

from ..films import film_at


def test_a_part_has_the_films_own_pictures(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3), dtype=np.uint8)
    film_at(tmp_path / "film.mp4", *np.split(pictures, 3))
    clip = cut_out(tmp_path / "film.mp4", tmp_path / "clip.mp4", 1, 2)
    assert np.array_equal(list(read_frames(clip)), list(read_frames(tmp_path / "film.mp4"))[3:])
    with av.open(str(clip)) as container:
        assert [round(frame.time * 16) for frame in container.decode(video=0)] == list(range(6))
    film_at(tmp_path / "alone.mp4", *np.split(pictures[3:], 2))
    assert clip.read_bytes() == (tmp_path / "alone.mp4").read_bytes(), "numbers of fragments included"


def test_a_part_that_is_not_there_is_refused(tmp_path):
    film_at(tmp_path / "film.mp4", np.zeros((2, 16, 16, 3), np.uint8))
    with pytest.raises(TakeError, match="too short"):
        cut_out(tmp_path / "film.mp4", tmp_path / "clip.mp4", 0, 2)
