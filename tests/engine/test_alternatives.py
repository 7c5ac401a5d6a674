"""Versions of one segment: each samples that segment only, and the kept one goes on."""

from __future__ import annotations

import pytest

from gf_core.engine.alternatives import alternatives
from gf_core.engine.events import Reused, StepDone
from gf_core.engine.session import Session
from gf_core.engine.take import Take
from gf_core.errors import StoryboardError
from gf_core.timeline import format_storyboard, parse

TEXT = "a fox runs | 1.5s\nthen: it jumps | 0.75s\nthen: it sits | 0.75s"


def render(bundle, planned, take, board, until=None):
    text = format_storyboard(board)
    return list(Session(bundle, planned(bundle, text), take, timeline=text, until=until).run())


def test_each_version_samples_one_segment_and_the_kept_one_goes_on(bundle, planned, tmp_path):
    board, made = parse(TEXT), {}
    with Take.open(tmp_path) as take:
        render(bundle, planned, take, board, until=1)
        for seed, version in alternatives(board, 2, 3).items():
            events = render(bundle, planned, take, version, until=2)
            made[seed] = events[-1].path
            assert sum(isinstance(event, StepDone) for event in events) == len(bundle.sample.steps)
        assert len({path.read_bytes() for path in made.values()}) == 3
        events = render(bundle, planned, take, alternatives(board, 2, 3)[seed])
    assert next(event for event in events if isinstance(event, Reused)).segments == 2
    assert events[-1].path == made[seed]


def test_seeds_are_the_same_every_time_and_no_segment_is_refused():
    board = parse(TEXT)
    assert list(alternatives(board, 2, 3)) == list(alternatives(board, 2, 3))
    with pytest.raises(StoryboardError, match="no segment 4"):
        alternatives(board, 4, 2)
    with pytest.raises(StoryboardError, match="muted"):
        alternatives(parse(TEXT + " | mute"), 3, 2)
