"""The suite: fixed unseen storyboards, and full marks for a model that is perfect."""

from __future__ import annotations

import random

import numpy as np

from gf_core.evaluation import suite
from gf_core.evaluation.film import spans_of
from gf_core.training.world import render, sample_script, storyboard


def test_storyboards_are_fixed_and_of_one_shape() -> None:
    texts = suite.mixed_storyboards(6)
    assert texts == suite.mixed_storyboards(6)
    assert len(set(texts)) == 6
    for text in texts:
        spans, _ = spans_of(text)
        assert [s.start for s in spans] == [0, 45, 93, 141, 189]
    verbs = {span.verb for text in texts for span in spans_of(text)[0]}
    assert verbs == {"start", "then", "cut", "scene"}


def test_a_return_shows_the_first_character_again() -> None:
    for text in suite.return_storyboards(4):
        asked = [span.asked for span in spans_of(text)[0]]
        assert (asked[0].subject, asked[0].colour) == (asked[2].subject, asked[2].colour)
        assert (asked[0].subject, asked[0].colour) != (asked[1].subject, asked[1].colour)


def test_a_perfect_model_gets_full_marks_and_a_forgetful_one_does_not() -> None:
    scripts = {}
    for i in range(3):
        script = suite._even(sample_script(random.Random(suite.SEED + 500_000 + i), 12, "return"))
        scripts[storyboard(script)] = script

    def perfect(text: str) -> np.ndarray:
        return render(scripts[text]).frames

    def forgetful(text: str) -> np.ndarray:
        from dataclasses import replace

        *head, last = scripts[text].segments
        who = last.character
        who = replace(who, scarf=(who.scarf + 1) % 6, hat=(who.hat + 1) % 4, patch=(who.patch + 1) % 3)
        return render(replace(scripts[text], segments=(*head, replace(last, character=who)))).frames

    good = suite.evaluate_suite(perfect, mixed=0, returns=3, long=0)
    bad = suite.evaluate_suite(forgetful, mixed=0, returns=3, long=0)
    assert good["identity"]["return"]["hidden"] > 0.85
    assert bad["identity"]["return"]["hidden"] < 0.25
    assert bad["identity"]["return"]["subject"] > 0.85
    assert any("identity after a return" in line for line in suite.suite_lines(good))
