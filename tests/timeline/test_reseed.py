"""A seed written into a storyboard's text: that and nothing else changes."""

from __future__ import annotations

import pytest

from gf_core.errors import StoryboardError
from gf_core.timeline import parse
from gf_core.timeline.edits import reseed

TEXT = (
    "\ufeff# mine\r\n@seed 4\r\na fox \\| runs | 1.5s\r\n\r\n"
    "then: it jumps  |  SEED  12  | 2s | recache 0.5\t\nscene: a hen"
)


@pytest.mark.parametrize(
    ("number", "before", "after"),
    [
        (1, "runs | 1.5s\r\n", "runs | 1.5s | seed 99\r\n"),
        (2, "|  SEED  12  |", "|  seed 99  |"),
        (3, "scene: a hen", "scene: a hen | seed 99"),
    ],
)
def test_only_the_seed_changes(number, before, after):
    changed = reseed(TEXT, number, 99)
    assert changed == TEXT.replace(before, after) != TEXT
    assert [segment.seed for segment in parse(changed).segments][number - 1] == 99


def test_what_is_no_segment_is_refused():
    for number in (0, 4):
        with pytest.raises(StoryboardError, match=f"no segment {number}"):
            reseed(TEXT, number, 1)
    with pytest.raises(StoryboardError, match="muted"):
        reseed(TEXT + " | mute", 3, 1)
    with pytest.raises(StoryboardError, match="out of range"):
        reseed(TEXT, 1, -1)
