"""The command line: what it prints, where it puts things, and how it fails."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from gf_core.checkpoints.bundle import ModelBundle
from gf_core.cli import main
from gf_core.cli.files import read_board
from gf_core.cli.parser import build_parser
from gf_core.cli.screen import ProgressLine, Screen, progress_line
from gf_core.config import Encoding, MemorySpec, ModelSpec, Recipe, SampleSpec, VideoSpec
from gf_core.engine.events import StepDone
from gf_core.engine.render import render_film
from gf_core.model.wan import WanModel
from gf_core.timeline import parse
from gf_core.video import FilmWriter, place_film, probe, read_chapters
from gf_core.words import exact_rate

ROOT = Path(__file__).parent.parent
FILM = "@seed 4\na fox runs | 1.5s\nthen: it jumps | 1.5s\ncut: a hen | 0.75s\n"
SPEC = ModelSpec(dim=32, ffn_dim=48, num_heads=2, num_layers=2, text_len=8, text_dim=12, freq_dim=16)


class Text:
    fingerprint = "text"

    def encode(self, prompts):
        return [torch.full((2, SPEC.text_dim), len(prompt) / 50) for prompt in prompts]


class Decoder:
    started = False

    def decode(self, latents):
        count = 4 * latents.shape[0] - (0 if self.started else 3)
        self.started = True
        height, width = (8 * side for side in latents.shape[2:])
        return torch.full((count, height, width, 3), float(latents.float().mean().sigmoid()))

    def snapshot(self):
        return {"started": torch.tensor(self.started)}

    def restore(self, state):
        self.started = bool(state["started"])


class Codec:
    channels, spatial_stride, time_stride, fingerprint = 16, 8, 4, "codec"
    decoder = Decoder

    def encode(self, frames):
        return torch.zeros(1, 16, frames.shape[1] // 8, frames.shape[2] // 8)


CALLED = {"name": "builtin", "fingerprint": "model"}


def bundle() -> ModelBundle:
    torch.manual_seed(0)
    return ModelBundle(
        **CALLED,
        model=WanModel(SPEC).eval().requires_grad_(False),
        spec=SPEC,
        text=Text(),
        codec=Codec(),
        recipe=Recipe(MemorySpec(anchors=1, recent=3), SampleSpec(steps=(1000, 500)), VideoSpec(32, 32)),
    )


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GROUNDED_CACHE", str(tmp_path / "cache"))
    (tmp_path / "film.txt").write_text(FILM, encoding="utf-8")
    return tmp_path


@pytest.fixture
def model(monkeypatch):
    import gf_core.checkpoints.bundle
    import gf_core.cli.opening

    asked = []
    monkeypatch.setattr(gf_core.cli.opening, "load_model", lambda *a, **k: asked.append((a, k)) or bundle())
    monkeypatch.setattr(gf_core.checkpoints.bundle, "load_model", lambda *a, **k: bundle())  # as `plan` asks
    return asked


def python(*arguments: str, **options) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **options}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False
    )


def test_render_places_film_sheet_report_and_take(place, model, capsys):
    assert main(["render", "film.txt", "--device", "cpu"]) == 0
    film = place / "films" / "film.mp4"
    info = probe(film)
    assert (info.frames, info.width) == (57, 32 * 24)
    assert (film.parent / "film_sheet.png").is_file()
    assert json.loads((film.parent / "film_report.json").read_text())["film"]["frames"] == 57
    assert (place / "takes" / "film" / "run-0001" / "timeline.txt").read_text(encoding="utf-8") == FILM
    printed = capsys.readouterr()
    assert str(Path("films") / "film.mp4") in printed.out
    assert re.search(r"shot \d/2  0:0\d of 0:04  \d+\.\d fps  0:\d\d left", printed.err)


def test_render_options(place, model):
    options = ["--out", "a/b.mp4", "--take", "t", "--size", "48x32", "--memory", "longlive"]
    more = ["--seed", "9", "--fps", "8", "--upscale", "2", "--no-sheet", "--dtype", "float32"]
    lora = ["--lora", "ink.safetensors:0.5", "--lora", "grain.pt"]
    assert main(["render", "film.txt", *options, *more, *lora, "--device", "cpu"]) == 0
    assert (probe(place / "a" / "b.mp4").width, (place / "a" / "b_sheet.png").exists()) == (96, False)
    settings = json.loads((place / "t" / "run-0001" / "settings.json").read_text())
    assert (settings["video"]["width"], settings["video"]["height"], settings["video"]["fps"]) == (48, 32, 8)
    assert settings["film"]["upscale"] == 2
    assert settings["memory"]["anchor_policy"] == "frozen"
    board = parse((place / "t" / "run-0001" / "timeline.txt").read_text(encoding="utf-8"))
    assert (board.seed, board.fps) == (9, 8)
    assert model[0][1]["loras"] == [(Path("ink.safetensors"), 0.5), (Path("grain.pt"), 1.0)]
    assert model[0][1]["dtype"] is torch.float32


def test_a_second_render_does_not_overwrite(place, model):
    assert main(["render", "film.txt", "--no-sheet"]) == 0
    assert main(["render", "film.txt", "--no-sheet"]) == 0
    assert (place / "films" / "film.mp4").is_file() and (place / "films" / "film-2.mp4").is_file()


def test_until_stops_and_the_next_render_says_what_it_kept(place, model, capsys):
    assert main(["render", "film.txt", "--no-sheet", "--until", "1"]) == 0
    assert "as they were" not in capsys.readouterr().err
    assert main(["render", "film.txt", "--no-sheet"]) == 0
    assert "1 of 3 segments are as they were; the film was not finished" in capsys.readouterr().err
    assert probe(place / "films" / "film.mp4").frames < probe(place / "films" / "film-2.mp4").frames == 57


def test_takes_of_a_segment_and_the_one_that_is_picked(place, model, capsys):
    (place / "film.txt").write_bytes(FILM.replace("\n", "\r\n").encode())
    assert main(["takes", "film.txt", "--segment", "2", "--names", "sun, rain", "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    folder = place / "takes" / "film" / "segment-002"
    assert (folder / "sheet.png").is_file() and probe(folder / "rain.mp4").frames == 24
    seed = int(re.search(r"rain +seed (\d+)", said)[1])  # type: ignore[index]
    assert "grounded pick film.txt 2 rain" in said

    (place / "linked.txt").symlink_to("film.txt")
    assert main(["pick", "linked.txt", "2", "rain", "--take", "takes/film"]) == 0
    assert f"seed {seed} is in line 3 of linked.txt" in capsys.readouterr().out
    changed = FILM.replace("jumps | 1.5s", f"jumps | 1.5s | seed {seed}").replace("\n", "\r\n")
    assert (place / "film.txt").read_bytes() == changed.encode() and (place / "linked.txt").is_symlink()
    assert main(["render", "film.txt", "--device", "cpu"]) == 0
    assert "2 of 3 segments are as they were" in capsys.readouterr().err

    assert main(["pick", "films/film.mp4", "2", "sun"]) == 0
    assert "jumps | 1.5s | seed" in capsys.readouterr().out
    assert main(["pick", "film.txt", "2", "snow"]) == 2
    assert "choose one of: sun, rain" in capsys.readouterr().err
    assert main(["pick", "film.txt", "3", "sun"]) == 2
    assert "has no takes yet" in capsys.readouterr().err


def test_tidy_removes_old_films_and_says_so(place, model, capsys):
    for text in (FILM, FILM.replace("a hen", "a cow")):
        (place / "film.txt").write_text(text, encoding="utf-8")
        assert main(["render", "film.txt", "--no-sheet"]) == 0
    assert main(["tidy", "takes/film"]) == 0
    assert re.search(r"run-0001: \d+ MB freed; films kept: 1", capsys.readouterr().out)
    assert main(["tidy", "takes/film"]) == 0
    assert "nothing to remove" in capsys.readouterr().out
    assert main(["tidy", "films"]) == 2
    assert "there is no Take at films" in capsys.readouterr().err


def test_the_film_is_the_project(place, model, capsys, caplog):
    """A film alone, in another folder, says what it was made from and makes itself again, byte for byte."""
    options = ["--size", "48x32", "--memory", "longlive", "--seed", "9", "--upscale", "2", "--no-sheet"]
    assert main(["render", "film.txt", *options]) == 0
    film = place / "films" / "film.mp4"
    film.rename(place / "kept.mp4")
    (place / "film.txt").unlink()
    capsys.readouterr()
    assert main(["open", "kept.mp4"]) == 0
    assert parse(capsys.readouterr().out) == replace(parse(FILM), seed=9)
    assert main(["open", "kept.mp4", "--settings"]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed[printed.index("\n{") :])["settings"]["video"]["width"] == 48
    pytest.importorskip("opentimelineio", reason="OpenTimelineIO is not installed")
    assert main(["export", "kept.mp4", "cut.otio"]) == 0
    capsys.readouterr()
    assert main(["open", "cut.otio"]) == 0
    assert parse(capsys.readouterr().out) == replace(parse(FILM), seed=9)
    assert main(["plan", "kept.mp4"]) == 0
    assert main(["render", "kept.mp4", "--out", "again.mp4", "--no-sheet"]) == 0
    assert "another film" not in caplog.text and "last bits" not in caplog.text
    runs = [place / "takes" / name / "run-0001" for name in ("film", "again")]
    assert runs[0].joinpath("film.mp4").read_bytes() == runs[1].joinpath("film.mp4").read_bytes()
    assert stored(place / "kept.mp4") == stored(place / "again.mp4")
    assert read_chapters(place / "kept.mp4") == read_chapters(place / "again.mp4")


def stored(path):
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(container.streams.video[0]) if packet.size]


def test_the_plan_of_a_film_knows_how_it_was_encoded(place, model, capsys):
    encoding = Encoding(quality=30, upscale=2)
    render_film(bundle(), FILM, "films/film.mp4", encoding=encoding, take_folder="takes/film", sheet=False)
    assert main(["plan", "films/film.mp4", "--device", "cpu"]) == 0
    assert "kept    5 of 5 chunks are there already\n" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["plan", "render"])
def test_a_film_keeps_its_number_type(command, place, monkeypatch):
    name, asked = f"gf_core.{'checkpoints.bundle' if command == 'plan' else 'cli.opening'}.load_model", []
    made = bundle()
    made.model.to(torch.bfloat16)
    render_film(made, FILM, "films/film.mp4", take_folder="takes/film", sheet=False)
    monkeypatch.setattr(name, lambda *a, **options: asked.append(options["dtype"]) or made)
    for option in ([], ["--dtype", "float32"]):
        main([command, "films/film.mp4", "--device", "cpu", *option])
    assert asked == [torch.bfloat16, torch.float32]


def test_what_a_film_cannot_bring_along_is_said(place, model, capsys, caplog, monkeypatch):
    assert main(["render", "film.txt", "--no-sheet", "--upscale", "1"]) == 0
    monkeypatch.setitem(CALLED, "fingerprint", "retrained")
    assert main(["render", "films/film.mp4", "--out", "b.mp4", "--no-sheet"]) == 0
    assert "another film will come out" in caplog.text
    monkeypatch.setitem(CALLED, "name", "built-in")  # its name inside ComfyUI
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        assert main(["render", "b.mp4", "--no-sheet"]) == 0
    finally:
        torch.set_num_threads(threads)
    assert f"threads {threads}, here {threads + 1}" in caplog.text
    monkeypatch.setitem(CALLED, "name", "longlive_base.pt")
    assert main(["render", "film.txt", "--out", "c.mp4", "--no-sheet", "--upscale", "1"]) == 0
    capsys.readouterr()
    assert main(["render", "c.mp4"]) == 2
    assert "--model FILE" in capsys.readouterr().err
    with FilmWriter("foreign.mp4", 32, 32, 16) as writer:
        writer.write(np.zeros((3, 32, 32, 3), np.uint8))
    assert main(["open", "foreign.mp4"]) == 2
    assert "no storyboard in foreign.mp4" in capsys.readouterr().err


def test_a_start_image_is_asked_for_again(place, model, capsys):
    Image.new("RGB", (32, 32), (90, 90, 90)).save("start.png")
    assert main(["render", "film.txt", "--start-image", "start.png", "--no-sheet"]) == 0
    assert main(["render", "films/film.mp4"]) == 2
    assert "--start-image" in capsys.readouterr().err


def test_ctrl_c_keeps_the_film_so_far_and_says_where(place, model, monkeypatch, capsys):
    import gf_core.cli.screen as module

    shown = []

    def interrupt(self, text):
        shown.append(text)
        if len(shown) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(module.ProgressLine, "show", interrupt)
    assert main(["render", "film.txt"]) == 130
    said = capsys.readouterr().err
    kept = place / "takes" / "film" / "run-0001" / "film.mp4"
    assert str(kept.relative_to(place)) in said and "Traceback" not in said
    assert probe(kept).frames >= 21
    assert not (place / "films" / "film.mp4").exists()


def test_plan_shows_snapped_lengths_and_seeds(capsys):
    Path("long.txt").write_text(FILM + "then: gone | mute\ncut: owl | 2s | seed 11\n", encoding="utf-8")
    main(["plan", "long.txt"])
    out = capsys.readouterr().out
    head, _, first, _, hen, muted, owl = out.splitlines()[:7]
    assert "5.81 s (asked 5.75 s)" in head and "8 chunks" in head and "93 pictures" in head
    assert "1.50 s" in first and "1.31 s" in first
    assert hen.split()[1] == "cut" and muted.split()[1] == "mute"
    assert owl.split()[1] == "cut" and " 11 " in owl


def test_plan_needs_no_torch(place):
    (place / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n")
    code = "import sys; sys.path.insert(0, '.'); from gf_core.cli import main; sys.exit(main(['plan', 'film.txt']))"
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert "a fox runs" in done.stdout and "torch is not installed" in done.stdout


def test_no_command_shows_the_help(capsys):
    assert main([]) == 2
    assert "examples:" in capsys.readouterr().err


def test_help_needs_no_torch_and_shows_examples():
    code = "import sys; sys.modules['torch'] = None; from gf_core.cli import main; main(['render', '--help'])"
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert "examples:" in done.stdout and "grounded render" in done.stdout


@pytest.mark.parametrize("command", ["render", "plan"])
def test_errors_are_words_on_stderr_and_status_2(command, model, capsys):
    Path("wrong.txt").write_text("a fox\nthan: it runs | 5s\n", encoding="utf-8")
    assert main([command, "wrong.txt"]) == 2
    said = capsys.readouterr().err
    assert "line 2, column 1" in said and "wrong.txt" in said and "did you mean 'then:'?" in said
    assert main([command, "fil.txt"]) == 2
    assert "did you mean film.txt?" in capsys.readouterr().err


def test_no_traceback_in_a_real_process():
    done = python("-m", "gf_core", "plan", "absent.txt")
    assert done.returncode == 2 and "Traceback" not in done.stderr and "fix:" in done.stderr


@pytest.mark.parametrize("content", [b"\xff\xfe\x00bad", b"\x80"])
def test_binary_storyboards_are_refused(content, capsys):
    Path("film.bin").write_bytes(content)
    assert main(["plan", "film.bin"]) == 2
    assert "UTF-8" in capsys.readouterr().err
    Path("film.mp4").write_bytes(content)
    assert main(["plan", "film.mp4"]) == 2
    assert "is not a film" in capsys.readouterr().err


def test_a_place_that_cannot_be_written(capsys, monkeypatch):
    import gf_core.evaluation.film as film

    monkeypatch.setattr(film, "evaluate_film", lambda *arguments: {})
    assert main(["evaluate", "x.mp4", "--storyboard", "film.txt", "--json", "film.txt/below/x.json"]) == 2
    assert "film.txt" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["plan", "a" * 5000],
        ["plan", "film.txt", "--model", "a" * 5000],
        ["inspect", "a" * 5000],
        ["drift", "a" * 5000],
        ["open", "a" * 5000],
        ["render", "film.txt", "--out", "a" * 300 + ".mp4"],
    ],
)
def test_names_that_no_disk_takes_are_refused_in_words(command, model, capsys):
    assert main(command) == 2
    assert capsys.readouterr().err.startswith("grounded: ")


@pytest.mark.parametrize(
    "command",
    [
        *(
            ["render", "film.txt", option, ""]
            for option in ("--out", "--take", "--model", "--vae", "--start-image")
        ),
        ["render", "film.txt", "--lora", ":0.5"],
        ["plan", " "],
        ["pick", "", "1", "a"],
        ["inspect", ""],
        ["open", ""],
        ["export", "film.txt", ""],
        ["tidy", ""],
    ],
)
def test_a_name_that_is_empty_is_refused(command, place, model, capsys):
    with pytest.raises(SystemExit) as stop:
        main(command)
    assert stop.value.code == 2 and "it names no file" in capsys.readouterr().err
    assert not model and not (place / "run-0001").exists()


@pytest.mark.parametrize("option", ["--seed=9", "--fps=23.976", "--take=elsewhere"])
def test_the_command_that_keeps_a_take_finds_it(option, place, model, capsys):
    assert main(["takes", "film.txt", "--segment", "2", "--seeds", "2", option, "--device", "cpu"]) == 0
    command = shlex.split(capsys.readouterr().out.splitlines()[-1].removeprefix("to keep  grounded"))
    assert main(command) == 0
    assert "in line 3 of film.txt" in capsys.readouterr().out


@pytest.fixture
def clip(place):
    """A film of another program."""
    with FilmWriter(place / "clip.mp4", 32, 32, 16) as writer:
        writer.write(np.full((24, 32, 32, 3), 90, np.uint8))
    return "clip.mp4"


@pytest.mark.parametrize("name", ["chart.png", "chart", "chart.txt", "new/chart.jpg"])
def test_a_chart_is_a_png_whatever_it_is_called(name, place, clip):
    assert main(["drift", clip, name]) == 0
    assert Image.open(place / name).format == "PNG"


def test_a_folder_in_the_way_is_called_by_its_name(place, clip, capsys):
    (place / "chart.png").mkdir()
    assert main(["drift", clip, "chart.png"]) == 2
    assert "grounded: chart.png: " in capsys.readouterr().err


def test_storyboard_from_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(FILM))
    text, board = read_board(build_parser().parse_args(["plan", "-"]))
    assert text == FILM and len(board.segments) == 3


@pytest.mark.parametrize("size", ["832", "832x", "x480", "832*480", "8x8", "99999x16", "-16x16"])
def test_sizes_that_are_none(size, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["plan", "film.txt", f"--size={size}"])
    assert stop.value.code == 2 and "--size" in capsys.readouterr().err


def test_inspect_refuses_what_is_no_model(capsys):
    assert main(["inspect", "film.txt"]) == 2
    assert "fix:" in capsys.readouterr().err


def test_train_passes_its_options_on(monkeypatch):
    import gf_core.train.recipes.builtin

    got = []
    monkeypatch.setattr(gf_core.train.recipes.builtin, "main", lambda argv: got.append(argv) or 0)
    assert main(["train", "builtin", "--stage", "codec", "--minutes", "3"]) == 0
    assert got == [["--stage", "codec", "--minutes", "3"]]


def test_bench_measures_random_weights(capsys, monkeypatch):
    import gf_core.evaluation.bench as bench

    monkeypatch.setitem(bench.SHAPES, "tiny", SPEC)
    options = ["--size", "32x32", "--chunks", "4", "--device", "cpu", "--json", "out/bench.json"]
    assert main(["bench", "--shape", "tiny", *options]) == 0
    out, numbers = capsys.readouterr().out, json.loads(Path("out/bench.json").read_text())
    assert "frames/s" in out and numbers["fps"] > 0 and numbers["chunks"] == 4
    assert set(numbers["seconds per chunk"]) == {"steps", "clean"}
    held, turn = numbers["memory"]["held"], numbers["turning the past"]
    assert held["raw keys"] == held["turned keys"] == held["values"] > 0
    assert turn["seconds more per chunk"] == pytest.approx(4 * turn["seconds per call"])


def test_bench_of_a_bundle_times_decode_and_encode():
    from gf_core.evaluation.bench import bundle_subject, measure

    numbers = measure(bundle_subject(bundle(), None, None), 4)
    assert set(numbers["seconds per chunk"]) == {"steps", "clean", "decode", "encode"}
    assert numbers["fps"] < numbers["sampling fps"]


def test_a_device_that_is_not_there(capsys):
    assert main(["bench", "--shape", "tiny", "--device", "nonsense"]) == 2
    assert "--device cpu" in capsys.readouterr().err


def test_progress_line_text():
    line = progress_line(shot=3, shots=9, done=21, total=70, fps=18.2, left=160)
    assert line == "shot 3/9  0:21 of 1:10  18.2 fps  2:40 left"


def test_progress_is_rewritten_on_a_terminal():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    line = ProgressLine(stream)
    line.show("a long line")
    line.show("short")
    line.end()
    assert stream.getvalue() == "\ra long line\rshort      \n"


def test_progress_is_a_line_every_few_seconds_elsewhere():
    stream, now = io.StringIO(), [100.0]
    line = ProgressLine(stream, now=lambda: now[0])
    for second, text in ((0, "first"), (1, "too soon"), (4.9, "still"), (5.1, "second")):
        now[0] = 100 + second
        line.show(text)
    for second in range(106, 128):
        now[0] = second
        line.remind(f"since {second}")
        if second == 120:
            line.end()  # something else is said
    assert stream.getvalue() == "first\nsecond\nsince 116\nsince 126\n"


def test_a_long_silence_is_broken(monkeypatch, capsys):
    monkeypatch.setattr("gf_core.cli.screen.SILENCE", 0.0)
    screen = Screen()
    with screen.shown():
        screen.tell(StepDone(3, 9, 1, 2, 4, 0.3))
        time.sleep(1.5)
    assert "chunk 4 of 9, step 2 of 4, 30%" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_in_a_real_process(place):
    code = (
        f"import signal, sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a test run in the background ignores it
        "import gf_core.cli.opening as r, test_cli\n"
        "r.load_model = lambda *a, **k: test_cli.bundle()\n"
        "from gf_core.cli import main\n"
        "sys.exit(main(['render', 'slow.txt']))\n"
    )
    (place / "slow.txt").write_text("a fox | 3000s\n", encoding="utf-8")
    kept = place / "takes" / "slow" / "run-0001" / "journal.jsonl"
    child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, cwd=place)
    try:
        while not (kept.exists() and kept.read_bytes().count(b"\n") > 3):
            assert child.poll() is None, child.communicate()[1]
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        said = child.communicate(timeout=120)[1]
    finally:
        child.kill()
    assert child.returncode == 130, said
    assert "kept in" in said and "Traceback" not in said
    assert probe(kept.with_name("film.mp4")).frames > 30


@pytest.mark.parametrize(
    ("said", "rate"),
    [
        ("23.976", "24000/1001"),
        ("29.97", "30000/1001"),
        ("12.5", "25/2"),
        ("24.0", "24"),
        ("60000/1001", "60000/1001"),
    ],
)
def test_rates_that_are_not_whole(said, rate, place, model, capsys):
    (place / "film.txt").write_text(f"@fps {said}\n{FILM}", encoding="utf-8")
    assert main(["render", "film.txt", "--no-sheet", "--upscale", "1"]) == 0
    exact, film = Fraction(rate), place / "films" / "film.mp4"
    info, ends = probe(film), [chapter.end_seconds for chapter in read_chapters(film)]
    assert info.fps == exact
    assert ends[-1] == pytest.approx(float(info.frames / exact), abs=1e-3)
    settings = json.loads((place / "takes" / "film" / "run-0001" / "settings.json").read_text())
    assert exact_rate(settings["video"]["fps"]) == exact and settings["pictures"]["fps"] == float(exact)
    assert f"at {float(exact):.5g} fps" in capsys.readouterr().out
    assert main(["render", "films/film.mp4", "--out", "again.mp4", "--no-sheet"]) == 0
    assert stored(film) == stored(place / "again.mp4")
    (place / "whole.txt").write_text("a red fox walks right in a meadow at noon | 1s", encoding="utf-8")
    assert main(["plan", "whole.txt", "--fps", said]) == 0
    assert f"{float(exact):.5g} fps" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", ["0", "121", "0.5", "-3", "23.97654", "24/0", "fast", "nan"])
def test_rates_that_are_none(wrong, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["plan", "film.txt", f"--fps={wrong}"])
    assert stop.value.code == 2 and "--fps" in capsys.readouterr().err


CJK = "# 狐狸 \u202e\n@seed 4\na red fox walks right in a meadow at noon | 3s | seed 3\n"


@pytest.mark.parametrize("page", ["cp1252", "cp437", "latin-1", "ascii"])
def test_every_command_speaks_on_every_code_page(page, place, model, monkeypatch):
    """`open` and `pick` print UTF-8 wherever the text goes, all else what the page has."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=page) for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    (place / "狐狸.txt").write_text(CJK, encoding="utf-8")
    assert main(["plan", "狐狸.txt"]) == 0
    assert main(["render", "狐狸.txt", "--out", "狐狸.mp4", "--upscale", "1"]) == 0
    assert main(["takes", "狐狸.txt", "--segment", "1", "--names", "狐,狸"]) == 0
    assert main(["pick", "狐狸.txt", "1", "狸"]) == 0
    assert main(["drift", "狐狸.mp4", "狐狸.png"]) in (0, 2)  # the little film may be too short for a chart
    assert main(["tidy", "takes/狐狸"]) == 0
    assert main(["plan", "狐狸"]) == 2
    assert main(["inspect", "狐狸.txt"]) == 2
    with pytest.raises(SystemExit):
        main(["plan", "狐狸.txt", "--size", "狐"])
    assert main(["open", "狐狸.mp4", "--settings"]) == 0
    assert main(["pick", "狐狸.mp4", "1", "狸"]) == 0
    out.flush()
    said = out.buffer.getvalue()  # type: ignore[attr-defined]  # it was made here
    assert said.count("# 狐狸 \u202e".encode()) == 2 and b"\\u72d0" in said


def test_a_storyboard_from_standard_input_is_utf_8(place, monkeypatch):
    for content, status in (("\ufeff" + CJK, 0), (b"\xff", 2)):
        data = content if isinstance(content, bytes) else content.encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="cp1252"))
        assert main(["plan", "-"]) == status


def test_nothing_steers_a_terminal(place, monkeypatch):
    class Teletype(io.StringIO):
        def isatty(self):
            return True

    out, err = Teletype(), Teletype()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    evil = "# \x1b]0;mine\x07\x1b[2J\u202e\x9b\n"
    with FilmWriter("plain.mp4", 32, 32, 16) as writer:
        writer.write(np.zeros((3, 32, 32, 3), np.uint8))
    place_film("plain.mp4", "evil.mp4", metadata={"timeline": evil + FILM})
    assert main(["open", "evil.mp4"]) == 0
    assert main(["plan", "\x1b[2J.txt"]) == 2 and main(["plan", "evil.mp4"]) == 2
    with pytest.raises(SystemExit):
        main(["plan", "film.txt", "--size", "\x1b[2J"])
    shown = out.getvalue() + err.getvalue()
    assert "\\x1b]0;mine\\x07" in shown and not set("\x1b\x07\x9b\u202e") & set(shown)


def test_all_unknown_words_are_named_before_anything_is_tried(place, capsys, monkeypatch):
    monkeypatch.setattr("gf_core.estimate.trial.try_out", None)
    (place / "film.txt").write_text(
        "a red fux walks in a meadow at noon\nthen: it danses | 2s\ncut: a unicorn\n"
    )
    for command in ("plan", "render"):
        assert main([command, "film.txt"]) == 2
        said = capsys.readouterr().err
        assert "line 1, column 7" in said and "fux (line 1), danses (line 2), unicorn (line 3)" in said
        assert "did you mean fox for fux, dances for danses?" in said and len(said) < 600


def test_plan_asks_about_number_type_and_companions(place, capsys, monkeypatch):
    """And passes them on to whoever counts; what is found about the prompts stands above the cost."""
    import gf_core.estimate.room as room

    asked = []

    def counted(model, **told):
        asked.append(told)
        return room.ModelCost(SPEC, value_bytes=2, decoder="taehv")

    monkeypatch.setattr(room, "file_cost", counted)
    monkeypatch.setattr("gf_core.cli.plan._wanted", lambda *_: bundle().recipe)
    monkeypatch.setattr("gf_core.cli.plan._tokenizer", lambda _: Letters())
    (place / "film.txt").write_text("a | 1s\nthen: " + "b" * 600 + " | 1s\n")
    parts = ["--vae", "taew2_1.pth", "--text-encoder", "umt5.pth", "--dtype", "bfloat16"]
    assert main(["plan", "film.txt", "--model", "w.safetensors", *parts, "--device", "cpu"]) == 0
    told = asked[0]
    assert (told["vae"], told["text"]) == (Path("taew2_1.pth"), Path("umt5.pth"))
    assert told["dtype"] is torch.bfloat16
    out = capsys.readouterr().out
    assert "segment 2 has 601 tokens, the model reads 512" in out and "segment 1 has" not in out
    assert out.index("601 tokens") < out.index("memory")


class Letters:
    eos = 1

    def ids(self, text):
        return [ord(letter) for letter in text]


def test_a_user_without_a_home(monkeypatch, request):
    from gf_core.files.cache import _home, cache_dir

    _home.cache_clear()  # other tests have asked for the home that there is
    request.addfinalizer(_home.cache_clear)

    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("GROUNDED_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    assert cache_dir("pace") == cache_dir("pace").parent / "pace"
    (cache_dir("pace")).mkdir(parents=True)
