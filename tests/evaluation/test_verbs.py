"""The storyboards that verbs are measured with: one film per verb, the same words and noise in each."""

from __future__ import annotations

import pytest

from gf_core.evaluation import verbs
from gf_core.evaluation.film import spans_of
from gf_core.timeline import make_plan, parse

WRITE = {"known": verbs.known_storyboard, "place": verbs.place_storyboard}


@pytest.mark.parametrize("name", WRITE)
def test_a_verb_changes_neither_words_nor_noise(name):
    for number in range(6):
        plans = [make_plan(parse(WRITE[name](number, verb))) for verb in verbs.WAYS[name].values()]
        told = [[(s.prompt, s.seed, s.chunks) for s in plan.segments] for plan in plans]
        assert told[0] == told[1]
        assert [s.verb for s in plans[0].segments] != [s.verb for s in plans[1].segments]


def test_the_first_character_comes_again_after_two_others():
    for number in range(6):
        asked = [span.asked for span in spans_of(verbs.known_storyboard(number, "back to 1"))[0]]
        people = [(one.subject, one.colour) for one in asked]
        assert people[3] == people[0] and len(set(people)) == 3
        assert len({one.place for one in asked}) == 4


def test_every_new_place_is_another_one():
    for number in range(6):
        places = [span.asked.place for span in spans_of(verbs.place_storyboard(number, "scene"))[0]]
        assert None not in places and len(set(places)) == 3


def test_it_means_the_one_that_is_gone_back_to():
    text = (
        "a red fox jumps in a city | 3s\ncut: a blue owl sleeps in the snow | 3s\nback to 1: it dances | 3s"
    )
    asked = spans_of(text)[0][2].asked
    assert (asked.subject, asked.colour, asked.place) == (0, 0, 5)
