"""What the other commands say: plan, inspect, drift, bench, train, help."""

from __future__ import annotations

import gc
import json
import os
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from gf_core.checkpoints.catalog import CATALOG
from gf_core.cli import SPINS, main, opening
from gf_core.cli.parser import COMMANDS, TRAININGS, build_parser
from gf_core.cli.settings import choose
from gf_core.cli.terminal import lasting
from gf_core.config import Encoding, MemorySpec, Recipe
from gf_core.engine.render import render_film
from gf_core.errors import GroundedError
from gf_core.estimate.room import ModelCost
from gf_core.evaluation import bench
from gf_core.files.cache import _home, cache_dir
from gf_core.memory.presets import PRESETS

from ..engine.conftest import SPEC
from .tiny import FILM, bundle, python


def test_the_plan_of_a_film_knows_how_it_was_encoded(place, model, printed):
    encoding = Encoding(quality=30, upscale=2)
    render_film(bundle(), FILM, "films/film.mp4", encoding=encoding, take_folder="takes/film", sheet=False)
    assert "kept    5 of 5 chunks are there already\n" in printed("plan", "films/film.mp4", "--device", "cpu")


def test_what_a_film_has_is_counted_in_one_word_in_front_and_behind(model, printed):
    """Latent frames are the memory's; what is seen are pictures."""
    planned, made = printed("plan", "film.txt"), printed("render", "film.txt")
    for told in (planned, made, printed("evaluate", "films/film.mp4")):
        assert "57 pictures" in told and "frames" not in told.replace("frames kept", "")


def test_plan_shows_snapped_lengths_and_seeds(capsys):
    Path("long.txt").write_text(FILM + "then: gone | mute\ncut: owl | 2s | seed 11\n", encoding="utf-8")
    main(["plan", "long.txt"])
    out = capsys.readouterr().out
    head, _, first, _, hen, muted, owl = out.splitlines()[:7]
    assert "5.81 s (asked 5.75 s)" in head and "8 chunks" in head and "93 pictures" in head
    assert "1.50 s" in first and "1.31 s" in first
    assert hen.split()[1] == "cut" and muted.split()[1] == "mute"
    assert owl.split()[1] == "cut" and " 11 " in owl


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, SPINS), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_waiting_threads_sleep_unless_it_is_said_otherwise(given, spins, monkeypatch):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    main([])
    assert os.environ.get("GOMP_SPINCOUNT") == spins


@pytest.mark.parametrize("own", [True, False])
def test_the_collector_leaves_out_what_a_command_is_made_of(own, place, model, monkeypatch):
    """Where the process is the command's own; whoever calls it from Python keeps what is theirs."""
    told = list[bool]()
    monkeypatch.setattr("sys.argv", ["grounded", "plan", "film.txt"])
    monkeypatch.setattr("gc.freeze", lambda: told.append(gc.isenabled()))
    assert main(None if own else ["plan", "film.txt"]) == 0
    assert told == [False] * own and gc.isenabled()


@pytest.mark.parametrize("own", [True, False])
def test_so_is_a_model_that_is_opened_later(own, monkeypatch):
    told = list[bool]()
    monkeypatch.setattr("gc.get_freeze_count", lambda: int(own))
    monkeypatch.setattr("gc.freeze", lambda: told.append(gc.isenabled()))
    with pytest.raises(ZeroDivisionError), lasting():
        assert gc.isenabled() is not own
        _ = 1 / 0
    assert told == [False] * own and gc.isenabled()


@pytest.mark.parametrize("small", [True, False])
def test_the_collector_runs_while_a_large_model_is_opened(small, place, monkeypatch):
    """What lies in cycles then are gigabytes; a small one's are not worth its time."""
    told = list[bool]()

    def opens(*given):
        told.append(gc.isenabled())
        raise GroundedError("enough is seen", "look no further")

    monkeypatch.setattr("gc.get_freeze_count", lambda: 1)
    monkeypatch.setattr("gc.freeze", lambda: None)
    monkeypatch.setattr(opening, "_is_plain", lambda args: True)
    monkeypatch.setattr(opening, "is_small", lambda model: small)
    monkeypatch.setattr(opening, "recall_bundle", lambda note, opens: None)
    monkeypatch.setattr(opening, "_open_bundle", opens)
    assert main(["render", "film.txt"]) == 2
    assert told == [not small] and gc.isenabled()


@pytest.mark.parametrize(("ends", "status"), [("0", 0), ("2", 2), ("1 / 0", 1)])
def test_the_process_ends_after_all_that_is_done_at_its_end(ends, status, place):
    code = f"""
import atexit, sys, gf_core.cli as cli
def main():
    atexit.register(print, "last")
    print("no end of a line", end="")
    return {ends}
cli.main = main
class Late:
    def __del__(self): print("taken down")
late = Late()
cli.program()
"""
    done = python("-c", code)
    assert done.returncode == status and done.stdout.startswith("no end of a linelast\n")
    assert ("ZeroDivisionError" in done.stderr) == (status == 1)
    assert ("taken down" in done.stdout) == (status == 1), "torch would be, too"


def test_plan_needs_no_torch(place):
    (place / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n")
    code = "import sys; sys.path.insert(0, '.'); from gf_core.cli import main; sys.exit(main(['plan', 'film.txt']))"
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert "a fox runs" in done.stdout and "torch is not installed" in done.stdout


def test_no_command_shows_the_help(refused):
    assert "examples:" in refused()


def test_plan_tells_pictures_of_the_cast_and_misses_them(place, capsys):
    (place / "boards").mkdir()
    (place / "boards" / "film.txt").write_text(
        "a hen | 1s\n@cast fox = a fox | fox.png\ncut: {fox} runs | 1s\n"
    )
    assert main(["plan", "boards/film.txt"]) == 2
    said = capsys.readouterr()
    assert "(picture fox.png) {fox} runs" in said.out
    assert "line 2, column 21: there is no picture fox.png of fox in boards" in said.err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_examples(command, capsys):
    """Each of which its parser takes."""
    with pytest.raises(SystemExit):
        main([command, "--help"])
    said = capsys.readouterr().out.partition("examples:\n")[2].splitlines()
    assert said and any(line.strip().startswith(f"grounded {command}") for line in said)
    for line in said:
        words = shlex.split(re.split(r"   +| > ", line.strip())[0])
        assert words[0] == "grounded" and (words[-1] == "--help" or build_parser().parse_args(words[1:]))


@pytest.mark.parametrize("what", TRAININGS)
def test_every_training_has_examples(what, capsys):
    """They are read by the parsers that they are for; what is required may be missing, as help ends the reading."""
    with pytest.raises(SystemExit):
        main(["train", what, "--help"])
    said = capsys.readouterr().out.partition("examples:\n")[2].splitlines()
    assert len(said) >= 3
    for line in said:
        words = shlex.split(line.strip().partition("   ")[0])
        assert words[0] == "grounded" and words[1] in ("train", "render")
        with pytest.raises(SystemExit) as end:
            main([*words[1:], "--help"])
        assert end.value.code == 0


def test_a_training_says_what_was_meant(refused):
    assert "did you mean --cards?" in refused("train", "plan", "--card", "8")


def test_help_needs_nothing_large_and_shows_examples():
    without = "import sys; sys.modules |= dict.fromkeys(('torch', 'numpy', 'av', 'PIL', 'gf_core.timeline'))"
    done = python("-c", f"{without}; from gf_core.cli import main; main(['render', '--help'])")
    assert done.returncode == 0, done.stderr
    assert "examples:" in done.stdout and "grounded render" in done.stdout


@pytest.mark.parametrize("name", ["chart.png", "chart", "chart.txt", "new/chart.jpg"])
def test_a_chart_is_a_png_whatever_it_is_called(name, place, clip):
    assert main(["drift", clip, name]) == 0
    assert Image.open(place / name).format == "PNG"


def test_a_folder_in_the_way_is_called_by_its_name(place, clip, refused):
    (place / "chart.png").mkdir()
    assert "grounded: chart.png: " in refused("drift", clip, "chart.png")


def test_train_passes_its_options_on(monkeypatch):
    got = []
    monkeypatch.setattr("gf_core.train.recipes.builtin.main", lambda argv: got.append(argv) or 0)
    assert main(["train", "builtin", "--stage", "codec", "--minutes", "3"]) == 0
    assert got == [["--stage", "codec", "--minutes", "3"]]


def test_bench_measures_random_weights(capsys, monkeypatch):
    monkeypatch.setitem(bench.SHAPES, "tiny", SPEC)
    options = ["--size", "32x32", "--chunks", "4", "--device", "cpu", "--json", "out/bench.json"]
    assert main(["bench", "--shape", "tiny", *options]) == 0
    out, numbers = capsys.readouterr().out, json.loads(Path("out/bench.json").read_text())
    assert "pictures/s" in out and numbers["fps"] > 0 and numbers["chunks"] == 4
    assert set(numbers["seconds per chunk"]) == {"steps", "clean"}
    held, turn = numbers["memory"]["held"], numbers["turning the past"]
    assert held["raw keys"] == held["turned keys"] == held["values"] > 0
    assert turn["seconds more per chunk"] == pytest.approx(4 * turn["seconds per call"])


@pytest.mark.parametrize("model", ["--model builtin", "--shape tiny"])
def test_bench_refuses_a_size_that_no_film_has(capsys, model):
    assert main(["bench", *model.split(), "--size", "97x64"]) == 2
    assert "97x64 does not fit the model's grid of 16 pixels" in capsys.readouterr().err


def test_bench_of_a_bundle_times_decode_and_encode():
    numbers = bench.measure(bench.bundle_subject(bundle(), None, None), 4)
    assert set(numbers["seconds per chunk"]) == {"steps", "clean", "decode", "encode"}
    assert numbers["fps"] < numbers["sampling fps"]


def test_plan_asks_about_number_type_and_companions(place, capsys, monkeypatch):
    """And passes them on to whoever counts; what is found about the prompts stands above the cost."""
    asked = []

    def counted(model, **told):
        asked.append(told)
        return ModelCost(SPEC, value_bytes=2, decoder="taehv")

    monkeypatch.setattr("gf_core.cli.opening.file_cost", counted)
    monkeypatch.setattr("gf_core.cli.plan.wanted", lambda *_: bundle().recipe)
    monkeypatch.setattr("gf_core.cli.plan._tokenizer", lambda _: Letters())
    (place / "film.txt").write_text("a | 1s\nthen: " + "b" * 600 + " | 1s\n")
    parts = ["--vae", "taew2_1.pth", "--text-encoder", "umt5.pth", "--dtype", "bfloat16"]
    for name in ("w.safetensors", "taew2_1.pth", "umt5.pth"):
        (place / name).touch()
    asking = ["plan", "film.txt", "--model", "w.safetensors", *parts, "--device", "cpu", "--parts-on"]
    assert main([*asking, "mars"]) == 2 and "leave --parts-on away" in capsys.readouterr().err
    assert main([*asking, "meta"]) == 0
    told = asked[0]
    assert told["parts_on"] == torch.device("meta")
    assert (told["vae"], told["text"]) == (Path("taew2_1.pth"), Path("umt5.pth"))
    assert told["dtype"] is torch.bfloat16
    out = capsys.readouterr().out
    assert "segment 2 has 601 tokens, the model reads 512" in out and "segment 1 has" not in out
    assert out.index("601 tokens") < out.index("memory")


class Letters:
    eos = 1

    def ids(self, text):
        return [ord(letter) for letter in text]


def test_a_user_without_a_home(monkeypatch, request, tmp_path):
    _home.cache_clear()  # other tests have asked for the home that there is
    request.addfinalizer(_home.cache_clear)

    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("GROUNDED_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    monkeypatch.setattr(
        "tempfile.tempdir", str(tmp_path)
    )  # it goes when the program ends, as this one may not
    assert cache_dir("pace") == cache_dir("pace").parent / "pace"
    (cache_dir("pace")).mkdir(parents=True)


def test_the_catalogue_is_listed_with_its_licences(printed, refused):
    lines = printed("inspect", "--list").splitlines()
    assert len(lines) == len(CATALOG)
    for row, line in zip(CATALOG, lines):
        assert line.startswith(f"{row.id} ") and row.title in line and line.endswith(row.licence)
    assert "--list" in refused("inspect")


def test_a_render_tells_the_licence_of_its_model_and_so_does_the_film(monkeypatch, caplog, printed):
    monkeypatch.setattr(
        "gf_core.checkpoints.bundle.load_model", lambda *a, **k: replace(bundle(), licence="CC BY-NC 4.0")
    )
    with caplog.at_level("INFO"):
        assert main(["render", "film.txt", "--until", "1", "--no-sheet"]) == 0
    assert "builtin is given under: CC BY-NC 4.0" in caplog.text
    assert '"licence": "CC BY-NC 4.0"' in printed("open", "films/film.mp4", "--settings")


def test_where_noise_comes_from_is_asked_for_and_kept_in_the_film(model, printed):
    assert main(["render", "film.txt", "--noise", "comfyui", "--until", "1", "--no-sheet"]) == 0
    settings = json.loads(printed("open", "films/film.mp4", "--settings"))["settings"]
    assert settings["sample"]["noise"] == "comfyui" and settings["facts"]["clips"] == [2, 2, 1]


def test_another_memory_keeps_the_chunks_that_the_model_makes():
    args = build_parser().parse_args(["render", "film.txt", "--memory", "longlive"])
    wanted = Recipe(MemorySpec(chunk=1))
    assert choose(wanted, args, 24).memory == replace(PRESETS["longlive"], chunk=1)
