"""The model that ships: its files are what they say, and a film of it shows the storyboard."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open

import gf_core.builtin
from gf_core.checkpoints.bundle import load_model
from gf_core.config import ModelSpec
from gf_core.errors import PromptError
from gf_core.evaluation.film import judge, spans_of
from gf_core.evaluation.suite import in_memory
from gf_core.model.wan import build_meta
from gf_core.world import words
from gf_core.world.reader import load_reader

FOLDER = Path(gf_core.builtin.__file__).parent
STORY = """
@seed 5
a blue owl stands still in the forest at night    | 3s
then: it jumps                                    | 3s
cut: the same blue owl sleeps on a beach at noon  | 3s
"""


def test_it_is_a_wan_checkpoint_in_original_names():
    with safe_open(str(FOLDER / "model.safetensors"), "pt") as file:
        shapes = {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        settings = json.loads(file.metadata()["grounded"])
    spec = ModelSpec(dim=256, ffn_dim=1024, num_heads=2, num_layers=6)
    assert shapes == {name: list(value.shape) for name, value in build_meta(spec).state_dict().items()}
    assert spec.head_dim == 128 and settings["memory"]["anchors"] == 3 and settings["video"]["fps"] == 16


def test_all_parts_stay_small():
    assert sum(path.stat().st_size for path in FOLDER.glob("*.safetensors")) < 30e6


def test_it_knows_the_world_and_says_so():
    bundle = load_model("builtin")
    assert bundle.text.encode([" ".join(words()[:20])])[0].shape == (21, 4096)
    with pytest.raises(PromptError, match="does not know: dragon"):
        bundle.text.encode(["a red dragon"])


def test_a_film_shows_its_storyboard():
    """Places, times and colours, which even the first trained version gets right; actions move between verbs."""
    frames = in_memory(bundle := load_model("builtin"), bundle.recipe.memory)(STORY)
    spans, fps = spans_of(STORY)
    result, _ = judge(frames, spans, fps, load_reader())
    for segment in result["segments"]:
        for name in ("place", "time", "colour"):
            assert segment["read"][name]["right"], (segment["prompt"], name, segment["read"][name])


def test_the_names_of_the_library_are_listed_where_one_looks():
    import gf_core

    names = {"load_model", "render_film", "parse", "Recipe"}
    assert names <= set(dir(gf_core)) & set(gf_core.__all__)
