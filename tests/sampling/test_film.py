"""Which call each verb makes, and when; a blend moves the text and switches the memory once."""

from __future__ import annotations

import pytest
import torch

from gf_core.sampling.film import Cues, mix_embeds
from gf_core.timeline import make_plan, parse


class Recorder:
    """Stands for a director; notes the calls."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []

    def __getattr__(self, name):
        return lambda embeds, **options: self.calls.append((name, round(float(embeds.mean()), 4), options))


def cues(text):
    plan = make_plan(parse(text))
    embeds = [torch.full((1, 4, 2), float(number)) for number in range(len(plan.segments))]
    director, at, told = Recorder(), [], Cues(plan, embeds)
    for index, place in enumerate(plan.places):
        before = len(director.calls)
        told.give(director, index)
        if place[1] == plan.segments[place[0]].chunks - 1:
            told.memories.keep(place[0], {"end": place[0]})
        at += [(*place, *call) for call in director.calls[before:]]
    return at


def test_every_verb_makes_its_call_at_the_first_chunk_only():
    text = "a fox | 2s\nthen: it runs | 2s | recache 0.5\ncut: a hen | 2s\nscene: a boat | 2s\nthen: it sails | 2s"
    assert cues(text) == [
        (0, 0, "start", 0.0, {}),
        (1, 0, "switch", 1.0, {"alpha_max": 0.5}),
        (2, 0, "cut", 2.0, {}),
        (3, 0, "scene", 3.0, {}),
        (4, 0, "switch", 4.0, {"alpha_max": None}),
    ]


def test_going_back_brings_the_state_of_that_segments_end():
    text = "a fox | 2s\ncut: a hen | 2s | mute\ncut: a boat | 2s\n"
    text += "back to 1: it | 2s\nback to 3: it | 2s | motion\nback to 1: it"
    assert cues(text)[2:] == [
        (2, 0, "back", 2.0, {"state": {"end": 0}, "motion": False}),
        (3, 0, "back", 3.0, {"state": {"end": 1}, "motion": True}),
        (4, 0, "back", 4.0, {"state": {"end": 0}, "motion": False}),
    ]


def test_a_blend_moves_the_text_evenly_and_switches_once_when_it_arrives():
    calls = cues("a fox | 2s\nthen: it runs | 4s | blend 2.25s")
    assert calls[1:] == [
        (1, 0, "blend", pytest.approx(1 / 3, abs=1e-4), {}),
        (1, 1, "blend", pytest.approx(2 / 3, abs=1e-4), {}),
        (1, 2, "switch", 1.0, {"alpha_max": None}),
    ]


def test_a_blend_as_long_as_its_segment_still_arrives():
    calls = cues("a fox | 2s\nthen: it runs | 2.25s | blend 2.25s")
    assert [call[2] for call in calls] == ["start", "blend", "blend", "switch"]


def test_mixing_prompts_of_other_lengths_pads_with_zero_rows():
    mixed = mix_embeds(torch.ones(1, 1, 2), 3 * torch.ones(1, 3, 2), 0.5)
    assert mixed[0, :, 0].tolist() == [2.0, 1.5, 1.5]
