"""Measures of a long film on made-up numbers: its ends, its chunk borders, who comes back, and how sure a mean is."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gf_core.evaluation.measures.bootstrap import mean_interval
from gf_core.evaluation.measures.borders import border_ratio, chunk_borders
from gf_core.evaluation.measures.ends import ends, pooled_drift
from gf_core.evaluation.measures.metrics import Span
from gf_core.evaluation.measures.recurrence import kept_by_distance
from gf_core.timeline import Timing, make_plan, parse
from gf_core.world.vocabulary import Labels


def test_the_ends_are_fifteen_per_cent_of_the_film():
    values = [10.0] * 15 + [99.0] * 70 + [8.0] * 15
    assert ends(values) == (10.0, 8.0)
    assert pooled_drift([np.array(values)]) == pytest.approx(-0.2)
    assert ends([3.0]) == (3.0, 3.0)


@pytest.mark.parametrize("values", [[], [0.0, 1.0]])
def test_a_beginning_of_nothing_has_no_ratio(values):
    assert math.isnan(pooled_drift([np.array(values)]))


@pytest.mark.parametrize("first", [None, 1, 5])
def test_borders_are_where_the_plan_begins_its_chunks(first):
    plan = make_plan(
        parse("a fox | 3s\ncut: a hen | 1.5s\nthen: it runs | 2s\n"), Timing(first_chunk_frames=first)
    )
    starts = [part.start_frame for part in plan.segments]
    begun = {plan.timing.pictures(chunk) for chunk in range(1, plan.chunks)} - set(starts)
    assert chunk_borders(starts, plan.frames, plan.timing) == sorted(begun)


def test_a_border_counts_as_it_is_louder_than_what_is_inside():
    changes = np.full(44, 0.01)
    borders = chunk_borders([0, 21], 45, Timing(first_chunk_frames=3))
    assert borders == [9, 33]
    changes[20] = 0.5  # the cut at 21
    assert border_ratio(changes, borders, [0, 21]) == pytest.approx(1)
    changes[[border - 1 for border in borders]] = 0.03
    assert border_ratio(changes, borders, [0, 21]) == pytest.approx(3)
    assert math.isnan(border_ratio(changes, []))


def test_steps_inside_a_latent_frame_are_no_measure_for_a_border():
    changes = np.full(48, 0.01)
    changes[3::4] = 0.05  # a decoder moves more between latent frames
    borders = [16, 32]
    assert border_ratio(changes, borders, stride=4) == pytest.approx(1)
    assert border_ratio(changes, borders) > 2


def film(*shots: tuple[str, int]) -> list[Span]:
    return [
        Span(16 * n, 16 * n + 16, verb, "", Labels(subject=subject, colour=0))
        for n, (verb, subject) in enumerate(shots)
    ]


def test_identity_is_told_by_the_shots_since_last_seen():
    spans = film(("start", 1), ("then", 1), ("cut", 1), ("cut", 2), ("cut", 3), ("back", 1), ("cut", 2))
    hidden = [1.0, 1.0, 0.8, 1.0, 1.0, 0.4, 0.6]
    rows = [
        {"segment": n, "character": [0, span.asked.subject, 0], "hidden": value}
        for n, (span, value) in enumerate(zip(spans, hidden))
    ]
    assert kept_by_distance(rows, spans) == pytest.approx({1: 0.8, 3: 0.5})


def test_an_interval_is_over_films():
    mean, low, high = mean_interval([[0.0] * 100, [1.0] * 100, [1.0], []])
    assert mean == pytest.approx(101 / 201)
    assert low == 0.0 and high == 1.0  # two hundred seconds of three films are three numbers
    assert mean_interval([[0.5, 0.7]] * 9)[1:] == pytest.approx((0.6, 0.6))
    assert all(math.isnan(value) for value in mean_interval([[1.0, 0.0]])[1:])
    assert math.isnan(mean_interval([])[0])
