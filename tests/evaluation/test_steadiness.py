"""Drift second by second, on made-up films."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from gf_core.evaluation import parts as parts_module
from gf_core.evaluation.charts.drift import drift_chart, shot_lines
from gf_core.evaluation.measures.steadiness import compare
from gf_core.evaluation.parts import Part, film_parts
from gf_core.video import Chapter

from ..films import film_at

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(60, 190, (48, 64, 3), dtype=np.uint8)
SPANS = [(0, 16, 0), (16, 32, 0), (32, 48, 0)]


def still(count: int = 48) -> np.ndarray:
    return np.repeat(PICTURE[None], count, 0)


def test_a_still_film_does_not_drift():
    rows = compare(still(), SPANS)
    assert [(row.start, row.stop) for row in rows] == [(0, 16), (16, 32), (32, 48)]
    assert all(row.background == row.colour == row.flicker == row.sharpness == 0 for row in rows)


def test_each_measure_sees_its_own_fault():
    film = still()
    film[16:32, :, 16:48] = (film[16:32, :, 16:48] * 0.5).astype(np.uint8)  # the middle gets darker
    film[32:, :, :12] //= 2  # the left edge gets darker
    _, middle, edge = compare(film, SPANS)
    assert middle.background == 0 and middle.colour > 0.02
    assert edge.background > 0.05

    film = still()
    film[16:32:2] += 20  # blinks
    film[32:] = film[32:].mean((1, 2), keepdims=True).astype(np.uint8)  # loses all detail
    _, blinking, flat = compare(film, SPANS)
    assert blinking.flicker > 10 and abs(blinking.sharpness) < 0.01
    assert flat.sharpness == pytest.approx(-1, abs=0.01)


def test_every_shot_has_its_own_first_second():
    film = still()
    film[16:] //= 2
    rows = compare(film, [(0, 16, 0), (16, 32, 1), (32, 48, 1)])
    assert all(row.colour == 0 for row in rows)


def test_a_shot_is_told_by_its_last_second():
    film = still()
    film[32:] //= 2
    parts = [Part(0, 16, "start", "a fox"), Part(16, 48, "cut", "a hen")]
    rows = compare(film, [(0, 16, 0), (16, 32, 1), (32, 48, 1)])
    first, second = shot_lines(parts, rows, 16.0)
    assert first.startswith("shot 1     1.0 s  ") and "colour 0.000" in first and first.endswith("  a fox")
    assert second.startswith("shot 2     2.0 s  ") and f"colour {rows[2].colour:.3f}" in second
    assert rows[2].colour > 0.1 and second.endswith("  a hen")


def test_a_film_that_ends_early_is_measured_as_far_as_it_goes():
    assert [row.stop for row in compare(still(20), SPANS)] == [16, 20]
    assert compare([], SPANS) == []


@pytest.mark.parametrize("builtin", [False, True])
def test_it_can_be_stopped_at_every_frame(tmp_path, builtin):
    """Measured in one pass, read in a second one and in batches, pictured in the last."""

    def tick():
        asked.append(None)
        if len(asked) == stop:
            raise InterruptedError

    path, asked, stop = tmp_path / "film.mp4", [], 0
    film_at(path, np.full((40, 64, 96, 3), 90, np.uint8))
    parts = [Part(0, 40, "start", "a red fox jumps in a meadow")]
    drift_chart(path, parts, builtin=builtin, tick=tick)
    total = len(asked)
    assert total >= 40 * (3 if builtin else 2)
    for stop in (1, 41, total):
        asked.clear()
        with pytest.raises(InterruptedError):
            drift_chart(path, parts, builtin=builtin, tick=tick)
        assert len(asked) == stop


def test_a_film_without_storyboard_is_charted_too(tmp_path, printed):
    path = film_at(tmp_path / "film.mp4", still(40))
    assert film_parts(path) == [Part(0, 40, "start", "")]
    parts = [Part(0, 16, "start", "a fox"), Part(16, 40, "cut", "a hen")]
    image, rows = drift_chart(path, parts)
    assert image.width == 1400 and image.height > 400
    assert [(row.start, row.stop, row.shot) for row in rows] == [(0, 16, 0), (16, 32, 1), (32, 40, 1)]
    assert "shot 1" in printed("drift", str(path)) and (tmp_path / "film_drift.png").is_file()


@pytest.mark.parametrize(
    ("width", "height", "count"), [(4096, 16, 20), (16, 4096, 3), (2, 2, 20), (4096, 2, 1)]
)
def test_a_film_of_any_shape_is_measured(tmp_path, width, height, count):
    path = film_at(tmp_path / "strip.mp4", np.full((count, height, width, 3), 90, np.uint8))
    page, rows = drift_chart(path, film_parts(path))
    assert page.width > 0 and len(rows) == 1
    assert all(row.background == row.colour == row.flicker == row.sharpness == 0 for row in rows)


@pytest.mark.parametrize("starts", [[0, 99], [3, 2, 1, 0], [0, 0, 0.5], [-5, 1], [50], []])
def test_chapters_that_another_program_left_as_they_were(tmp_path, monkeypatch, starts):
    path = film_at(tmp_path / "cut.mp4", np.full((20, 16, 16, 3), 90, np.uint8))
    chapters = [Chapter(start, start + 1, str(number)) for number, start in enumerate(starts)]
    segments = [{"verb": "cut", "prompt": "a fox"}] * max(1, len(starts))
    monkeypatch.setattr(parts_module, "read_recorded", lambda path: SimpleNamespace(segments=segments))
    monkeypatch.setattr(parts_module, "read_chapters", lambda path: chapters)
    parts = film_parts(path)
    assert parts and all(0 <= part.start < part.stop <= 20 for part in parts)
    assert drift_chart(path, parts, builtin=False)[1]
