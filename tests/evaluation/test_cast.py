"""Films held against a picture of their character: true ones are read as it, other people's are not."""

from __future__ import annotations

import random

import numpy as np
import pytest

from gf_core.evaluation import cast
from gf_core.timeline import make_plan, parse
from gf_core.world.reader import load_reader
from gf_core.world.render import render
from gf_core.world.vocabulary import HIDDEN


@pytest.fixture(scope="module")
def scripts():
    return [cast.two_places(cast.SEED + number) for number in range(2)]


def test_a_board_gives_the_picture_once_and_says_what_the_script_says(scripts):
    for script in scripts:
        plan = make_plan(parse(cast.board_of(script)))
        assert [segment.prompt for segment in plan.segments] == [part.caption for part in script.segments]
        assert [segment.pictures for segment in plan.segments] == [(cast.FILE,), ()]
        assert plan.chunks == cast.CHUNKS == script.chunks


def test_the_picture_shows_the_character_somewhere_else(scripts):
    script = scripts[0]
    shown = cast.portrait(script, random.Random(0))
    assert shown.shape == (64, 96, 3) and shown.dtype == np.uint8
    assert not any(np.array_equal(shown, frame) for frame in render(script).frames)


def test_true_films_are_read_as_the_character_and_others_are_not(scripts):
    reader = load_reader()
    one, other = scripts
    rows, wrong = (cast.judge(render(film).frames, one, reader) for film in (one, other))
    assert np.mean([row[name] for row in rows for name in HIDDEN]) > 0.8
    assert np.mean([row[name] for row in wrong for name in HIDDEN]) < 0.6
    assert [row["place"] > 0.9 for row in rows] == [True, True]


def test_films_are_the_units_of_the_standard_error():
    rows = [{"hat": value} for value in (0.0, 1.0, 1.0, 1.0)]
    mean, error = cast.spread(rows, "hat")
    assert mean == 0.75 and error == pytest.approx(0.25)
