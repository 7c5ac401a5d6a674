"""The storyboards in the repository: each reads, and those for the built-in model say only what it knows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gf_core.timeline import format_storyboard, make_plan, parse
from gf_core.world import vocabulary

FOLDER = Path(__file__).parents[2] / "workflows" / "storyboards"
BUILTIN = ("first_film", "three_actions", "two_scenes", "nine_segments")


def read(name: str):
    return parse((FOLDER / f"{name}.txt").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.txt")))
def test_reads_plans_and_writes(name):
    board = read(name)
    assert parse(format_storyboard(board)) == board
    assert make_plan(board).seconds == pytest.approx(sum(s.seconds for s in board.segments), abs=0.375)


@pytest.mark.parametrize("name", BUILTIN)
def test_builtin_storyboards_use_known_words_and_say_everything(name):
    board, labels = read(name), None
    for index, segment in enumerate(board.segments):
        prompt = board.expanded(index)
        assert set(re.findall(r"[a-z]+", prompt.lower())) <= set(vocabulary.words()), prompt
        labels = vocabulary.describe(prompt, None if segment.verb == "scene" else labels)
        assert None not in (labels.subject, labels.colour, labels.action, labels.place, labels.time), prompt


def test_first_film_shows_what_the_language_is_for():
    board = read("first_film")
    verbs = [segment.verb for segment in board.segments]
    assert len(verbs) >= 5 and verbs.count("then") >= 2 and verbs.count("cut") >= 1
    assert make_plan(board).seconds >= 25
    first = vocabulary.describe(board.expanded(0))
    last = vocabulary.describe(board.expanded(len(verbs) - 1))
    assert (first.subject, first.colour) == (last.subject, last.colour)


@pytest.mark.parametrize("page", ["docs/storyboard.md", "web/docs/GF_PromptTimeline.md"])
def test_the_documentation_lists_the_words_of_the_built_in_model(page: str):
    page = (FOLDER.parents[1] / page).read_text(encoding="utf-8")
    listed = page.split("## What the built-in model can read")[1].split("```")[1].split()
    assert listed == list(vocabulary.words())
