"""A part of a film: the same pictures, from time 0 on."""

from __future__ import annotations

import av
import numpy as np
import pytest

from gf_core.config import VideoSpec
from gf_core.errors import TakeError
from gf_core.video import FilmWriter, cut_out, read_frames


def test_a_part_has_the_films_own_pictures(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3), dtype=np.uint8)
    with FilmWriter(tmp_path / "film.mp4", VideoSpec(16, 16, 16)) as writer:
        for start in range(0, 9, 3):
            writer.write(pictures[start : start + 3])
    clip = cut_out(tmp_path / "film.mp4", tmp_path / "clip.mp4", 1, 2)
    assert np.array_equal(list(read_frames(clip)), list(read_frames(tmp_path / "film.mp4"))[3:])
    with av.open(str(clip)) as container:
        assert [round(frame.time * 16) for frame in container.decode(video=0)] == list(range(6))
    with FilmWriter(tmp_path / "alone.mp4", VideoSpec(16, 16, 16)) as writer:
        for start in (3, 6):
            writer.write(pictures[start : start + 3])
    assert clip.read_bytes() == (tmp_path / "alone.mp4").read_bytes(), "numbers of fragments included"


def test_a_part_that_is_not_there_is_refused(tmp_path):
    with FilmWriter(tmp_path / "film.mp4", VideoSpec(16, 16, 16)) as writer:
        writer.write(np.zeros((2, 16, 16, 3), np.uint8))
    with pytest.raises(TakeError, match="too short"):
        cut_out(tmp_path / "film.mp4", tmp_path / "clip.mp4", 0, 2)
