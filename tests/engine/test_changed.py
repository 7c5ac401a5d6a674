"""What has changed outside the storyboard is told in words that somebody who set it knows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gf_core.config import SampleSpec
from gf_core.memory.presets import PRESETS
from gf_core.take.changed import what_changed
from gf_core.take.facts import latent_facts


@pytest.mark.parametrize(
    ("was", "now", "words"),
    [
        ({"memory": PRESETS["grounded"]}, {"memory": PRESETS["longlive"]}, "memory: grounded -> longlive"),
        (
            {"memory": replace(PRESETS["krea"], chunk=1)},
            {"memory": replace(PRESETS["sgf"], chunk=1)},
            "memory: krea -> sgf",
        ),
        (
            {"memory": PRESETS["sgf"]},
            {"memory": replace(PRESETS["sgf"], stored="int8")},
            "memory: stored full -> int8",
        ),
        ({"sample": SampleSpec()}, {"sample": SampleSpec(noise="comfyui")}, "sample: noise chunk -> comfyui"),
    ],
)
def test_a_method_is_told_by_its_name(bundle, was, now, words):
    facts = [latent_facts(bundle, replace(bundle.recipe, **change)) for change in (was, now)]
    if "sample" in now:
        facts[1]["clips"] = [2, 2]
    facts = [{"facts": one, "segments": []} for one in facts]
    assert what_changed(facts[0], facts[1], latents=True) == words
    facts[1]["facts"] = {
        **facts[0]["facts"],
        "kernels": {**facts[0]["facts"]["kernels"], "dtype": "bfloat16"},
    }
    assert what_changed(facts[0], facts[1], latents=True) == "number type float32 -> bfloat16"
