"""VBench through a stand-in of its package: what it is given, what is read back, and every way in which it fails.

The stand-in has the signatures of vbench 0.1.5 and of the checkout's `vbench2_beta_long`, and refuses what they refuse.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from gf_core.cli import main
from gf_core.errors import GroundedError
from gf_core.evaluation.parts import Part
from gf_core.evaluation.vbench import adapter as vbench
from gf_core.evaluation.vbench import inside as vbench_inside

TORCH = """
import os
device = str
class cuda:
    is_available = staticmethod(lambda: False)
class hub:
    get_dir = staticmethod(lambda: os.environ["HUB"])
"""
UTILS = "import os\nCACHE_DIR = os.environ['VBENCH_CACHE_DIR']\n"
VBENCH = """
import json, os
class VBench:
    def __init__(self, device, full_info_dir, output_path):
        self.output_path = output_path
        os.makedirs(output_path, exist_ok=True)
        open(full_info_dir).close()
    def answer(self, name, results):
        with open(os.path.join(self.output_path, name + "_eval_results.json"), "w") as file:
            json.dump(results, file)
    def evaluate(self, videos_path, name, prompt_list=[], dimension_list=None, local=False, read_frame=False,
                 mode="vbench_standard", **kwargs):
        names = sorted(os.listdir(videos_path))
        assert mode == "custom_input" and local and kwargs == {"imaging_quality_preprocessing_mode": "longer"}
        assert not prompt_list or set(prompt_list) == set(names)
        scale = {"imaging_quality": 100}
        rows = {dim: [{"video_path": os.path.join(videos_path, n), "video_results": (0.5 + i / 10) * scale.get(dim, 1)}
                      for i, n in enumerate(names)] for dim in dimension_list}
        results = {dim: [0.75, rows[dim]] for dim in dimension_list}
        if "overall_consistency" in results:  # says what it was asked
            results["overall_consistency"][0] = len(prompt_list["film-0.mp4"])
        FAULT
        self.answer(name, results)
"""
LONG = """
import os
from vbench import VBench
class VBenchLong(VBench):
    def evaluate(self, videos_path, name, prompt_list=[], dimension_list=None, local=False, read_frame=False,
                 mode="vbench_standard", **kwargs):
        assert mode == "long_custom_input" and local and kwargs["dev_flag"] and not kwargs["use_semantic_splitting"]
        for config in ("slow_fast_eval_config", "sb_mapping_file_path", "bg_mapping_file_path"):
            open(kwargs[config]).close()
        assert kwargs["clip_length_config"] == "clip_length_mix.yaml"
        os.makedirs(os.path.join(videos_path, "split_clip"))
        films = [n for n in sorted(os.listdir(videos_path)) if n.endswith(".mp4")]
        clips = [{"video_path": f"{videos_path}/split_clip/{n[:-4]}/{n[:-4]}_00{i}.mp4", "video_results": 0.1}
                 for n in films for i in range(3)]
        def whole(scale=1):
            return [{"video_path": f"{videos_path}/{n}", "video_results": 0.6 * scale} for n in films]
        self.answer(name, {dim: [0.6, whole()] if dim.endswith("consistency") else [0.6, clips, whole()]
                           for dim in dimension_list} | {"imaging_quality": [0.6, clips, whole(100)]})
"""


@pytest.fixture
def films(tmp_path, monkeypatch):
    """The stand-in with all weights in place, and two films that nobody opens."""
    tables = [vbench_inside.WEIGHTS, vbench_inside.LONG_WEIGHTS]
    roots = {"cache": tmp_path / "vbench", "hub": tmp_path / "hub", "home": tmp_path / ".cache"}
    for root, name, _ in (entry for table in tables for part in table.values() for entry in part):
        (roots[root] / name).parent.mkdir(parents=True, exist_ok=True)
        (roots[root] / name).touch()
    stand_in(tmp_path)
    for name, value in {
        "PYTHONPATH": tmp_path / "packages",
        "HUB": roots["hub"],
        "VBENCH_CACHE_DIR": roots["cache"],
        "HOME": tmp_path,
        "USERPROFILE": tmp_path,
    }.items():
        monkeypatch.setenv(name, str(value))
    for name in ("a_Scene-1.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"a film")
    return [(tmp_path / "a_Scene-1.mp4", "a fox. it jumps"), (tmp_path / "b.mp4", "a hen")]


def stand_in(folder: Path, fault: str = "pass") -> None:
    """Write the packages; `fault` runs before results are written."""
    files = {
        "torch.py": TORCH,
        "vbench/utils.py": UTILS,
        "vbench/VBench_full_info.json": "[]",
        "vbench/__init__.py": VBENCH.replace("FAULT", fault),
        "vbench2_beta_long/__init__.py": LONG,
        "vbench2_beta_long/configs/slow_fast_params.yaml": "",
        "vbench2_beta_long/configs/subject_mapping_table.yaml": "",
        "vbench2_beta_long/configs/background_mapping_table.yaml": "",
    }
    for name, text in files.items():
        path = folder / "packages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


PYTHON = Path(sys.executable)


def test_scores_are_given_back_by_film(films):
    means, scores = vbench.score_films(PYTHON, films)
    assert list(scores[0]) == [*vbench.DIMENSIONS, "overall_consistency"]
    assert scores[1] == pytest.approx(dict.fromkeys(scores[1], 0.6))  # imaging quality too
    assert means["subject_consistency"] == 0.75 and means["overall_consistency"] == len("a fox. it jumps")
    assert "overall_consistency" not in vbench.score_films(PYTHON, [(films[0][0], "")])[0]


def test_long_films_are_scored_whole_and_nothing_is_left_beside_them(films, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    _, scores = vbench.score_films(PYTHON, films, long=True)
    assert scores == [dict.fromkeys(vbench.DIMENSIONS, 0.6)] * 2
    assert [path for path in sorted(tmp_path.rglob("*")) if "__pycache__" not in path.parts] == before


@pytest.mark.parametrize("long", [False, True])
def test_weights_that_are_not_there_are_named_and_not_fetched(films, tmp_path, long):
    (tmp_path / "vbench/clip_model/ViT-B-32.pt").unlink()
    (tmp_path / "hub/facebookresearch_dinov2_main").unlink()
    with pytest.raises(GroundedError) as caught:
        vbench.score_films(PYTHON, films, long)
    assert f"{tmp_path / 'vbench/clip_model/ViT-B-32.pt'}\n    from https://" in caught.value.message
    assert ("dinov2_main" in caught.value.message) == long


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (
            "import subprocess; subprocess.run(['wget', 'weights.pt'])",
            "wanted to fetch something: wget weights.pt",
        ),
        ("import urllib.request as u; u.urlopen('http://127.0.0.1:9/a')", "wanted to fetch something"),
        ("assert False, 'not supported'", "AssertionError: not supported"),
        ("os._exit(3)", "ended with 3: it said nothing"),
        ("results = {'aesthetic_quality': 0.5}", "in a form that is not known"),
        (
            "results = {'aesthetic_quality': [0.5, [{'video_path': 'other.mp4', 'video_results': 1}]]}",
            "not known",
        ),
    ],
)
def test_faults_are_told_in_words(films, tmp_path, fault, words):
    stand_in(tmp_path, fault)
    with pytest.raises(GroundedError, match=words):
        vbench.score_films(PYTHON, films)


def test_an_environment_without_it(films, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "none"))
    (tmp_path / "packages/vbench2_beta_long/__init__.py").unlink()
    with pytest.raises(GroundedError, match="cannot be run"):
        vbench.score_films(tmp_path / "python", films)
    (tmp_path / "packages/vbench/__init__.py").unlink()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "packages"))
    with pytest.raises(GroundedError, match="VBench fails"):
        vbench.score_films(PYTHON, films)
    with pytest.raises(GroundedError, match=r"takes .mp4 only, not c.mov"):
        vbench.score_films(PYTHON, [(tmp_path / "c.mov", "")])


def test_the_command_puts_them_into_its_table(films, tmp_path, monkeypatch, capsys, printed):
    result = {"seconds": 1.0, "over_time": {"drift": {}, "left_out": {}}}
    monkeypatch.setattr("gf_core.cli.evaluate.evaluate_film", lambda path, *_: result | {"film": path.name})
    monkeypatch.setattr(vbench, "film_parts", lambda path: [])
    monkeypatch.setattr("gf_core.evaluation.films_table.MEASURES", ())
    (tmp_path / "films").mkdir()
    for path, _ in films:
        path.rename(tmp_path / "films" / path.name)
    options = [
        "--vbench",
        sys.executable,
        "--vbench-long",
        sys.executable,
        "--json",
        str(tmp_path / "n.json"),
    ]
    head, _, first, _, mean = printed("evaluate", str(tmp_path / "films"), *options).splitlines()
    assert (
        head.startswith("| film | seconds | VBench subject consistency |")
        and "VBench-Long imaging quality" in head
    )
    assert first.startswith("| a_Scene-1.mp4 | 1.0 | 0.500 |") and mean.startswith(
        "| mean | | 0.750 (0.500 to 0.600)"
    )
    told = json.loads((tmp_path / "n.json").read_text())
    assert told["vbench"]["VBench aesthetic quality"] == 0.75
    assert told["films"][1]["vbench"]["VBench-Long motion smoothness"] == 0.6
    stand_in(tmp_path, "assert False, 'no room'")  # which shows when films are scored
    assert main(["evaluate", str(tmp_path / "films"), *options]) == 2
    told = capsys.readouterr()
    assert "| a_Scene-1.mp4 | 1.0 |" in told.out and "no room" in told.err
    assert [film["film"] for film in json.loads((tmp_path / "n.json").read_text())["films"]] == [
        "a_Scene-1.mp4",
        "b.mp4",
    ]


@pytest.mark.parametrize("option", ["--vbench", "--vbench-long"])
def test_what_cannot_score_is_refused_before_anything_is_measured(
    films, tmp_path, monkeypatch, refused, option
):
    monkeypatch.setattr("gf_core.cli.evaluate.evaluate_film", None)
    (tmp_path / "hub/checkpoints/dino_vitbase16_pretrain.pth").unlink()
    asked = ["evaluate", str(films[0][0]), option]
    assert "would fetch" in refused(*asked, sys.executable)
    (tmp_path / "hub/checkpoints/dino_vitbase16_pretrain.pth").touch()
    (
        tmp_path / "vbench/ViCLIP/ViClip-InternVid-10M-FLT.pth"
    ).unlink()  # it reads prompts, which long films do not get
    monkeypatch.setattr(vbench, "film_parts", lambda path: [Part(0, 1, "start", "a fox")])
    if option == "--vbench":
        assert "ViClip-InternVid-10M-FLT.pth\n    from https://" in refused(*asked, sys.executable)
    assert "cannot be run: No such file" in refused(*asked, str(tmp_path / "python"))
