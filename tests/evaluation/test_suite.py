"""The suite: fixed unseen storyboards, and full marks for a model that is perfect."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from gf_core.checkpoints.model_bundle import ModelBundle
from gf_core.config import MemorySpec, ModelSpec, Recipe, SampleSpec, VideoSpec
from gf_core.errors import GroundedError
from gf_core.evaluation import suite
from gf_core.evaluation.film import spans_of
from gf_core.evaluation.suite_table import suite_table
from gf_core.memory.presets import PRESETS
from gf_core.model.wan import WanModel
from gf_core.text.small import SmallTextEncoder
from gf_core.vae.builtin import BuiltinCodec
from gf_core.world import render, sample_script, storyboard, words


def test_storyboards_are_fixed_and_of_one_shape() -> None:
    texts = list(map(storyboard, suite.mixed_scripts(6)))
    assert texts == list(map(storyboard, suite.mixed_scripts(6)))
    assert len(set(texts)) == 6
    for text in texts:
        spans, _ = spans_of(text)
        assert [s.start for s in spans] == [0, 45, 93, 141, 189]
    verbs = {span.verb for text in texts for span in spans_of(text)[0]}
    assert verbs == {"start", "then", "cut", "scene"}


def test_a_return_shows_the_first_character_again() -> None:
    for text in map(storyboard, suite.return_scripts(4)):
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
    row = suite_table({"good": good})[2]
    assert row.startswith("| good | – | – | ") and row.count("–") == 6  # the sets that were left out


def test_who_comes_again_after_another_is_in_a_column_of_their_own() -> None:
    def film(*rows: tuple[int, float, int, float]) -> dict:
        named = (dict(zip(("cuts", "absence", "segment", "hidden"), row), age=1) for row in rows)
        return {"identity_by_second": list(named), "segments": []}

    mixed = film((0, 0, 0, 1.0), (1, 0, 1, 0.5), (2, 3, 2, 0.25))
    films = [mixed, film((0, 0, 0, 1.0), (0, 0, 1, 1.0), (1, 3, 2, 0.75))]
    (row,) = suite_table({"own": {"counts": {"mixed": 1, "returns": 1, "long": 0}, "films": films}})[2:]
    assert row == "| own | 100 | 50 | 75 | – | – | – | – |"


def test_numbers_that_are_there_are_not_measured_again(tmp_path, monkeypatch, capsys, bundle) -> None:
    asked = []

    def once(render, **sets):
        asked.append(sets)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return {"counts": sets, "films": []}

    def run(*words: str) -> int:
        monkeypatch.setattr("sys.argv", ["suite", *words, "--out", str(out)])
        return suite.main()

    out = tmp_path / "suite.json"
    monkeypatch.setattr(suite, "evaluate_suite", once)
    monkeypatch.setattr("gf_core.evaluation.suite.load_model", lambda name: bundle)
    with pytest.raises(KeyboardInterrupt):
        run("--memory", "sgf,krea")
    assert run("--memory", "sgf,krea") == 0 and len(asked) == 3  # sgf was done
    assert run("--memory", "all") == 0 and len(asked) == 3 + len(PRESETS) - 2
    assert run("--memory", "sgf", "--long", "1") == 0 and asked[-1]["long"] == 1
    assert list(suite.measured(out)) == [
        "sgf",
        "krea",
        *(name for name in PRESETS if name not in ("sgf", "krea")),
    ]
    out.write_text("[1]")
    assert run("--memory", "sgf") == 2
    assert "no result of the suite" in capsys.readouterr().err


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    """An untrained model of the built-in kind."""
    torch.manual_seed(0)
    spec = ModelSpec(dim=32, ffn_dim=64, num_heads=2, num_layers=1, text_dim=64, text_len=32, freq_dim=32)
    return ModelBundle(
        name="random",
        model=WanModel(spec).eval(),
        spec=spec,
        text=SmallTextEncoder(words(), dim=32, text_dim=64).eval(),
        codec=BuiltinCodec().eval(),
        recipe=Recipe(MemorySpec(), SampleSpec(steps=(1000, 500)), VideoSpec(width=96, height=64)),
        fingerprint="",
    )


def test_a_film_in_memory_has_the_length_and_the_repeatability_of_its_storyboard(bundle) -> None:
    lines = (
        "a red fox jumps in a meadow | 1.5s",
        "then: it sleeps | 0.75s",
        "cut: it waits by the sea | 0.75s",
    )
    text = "\n".join(lines)
    make = suite.in_memory(bundle, bundle.recipe.memory)
    frames = make(text)
    assert frames.shape == (45, 64, 96, 3) and frames.dtype == np.uint8
    assert np.array_equal(frames, make(text))
    other = suite.in_memory(bundle, suite.memories(bundle.recipe.memory, ["no_anchors"])["no_anchors"])(text)
    assert np.array_equal(frames[:33], other[:33])  # nothing has left the recent memory before the cut
    assert not np.array_equal(frames[33:], other[33:])


def test_an_unknown_memory_is_refused() -> None:
    with pytest.raises(GroundedError, match="no memory called"):
        suite.memories(MemorySpec(), ["elephant"])
