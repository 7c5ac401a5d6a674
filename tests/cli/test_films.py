"""Films made, gone on with, taken apart and read again by command."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gf_core.cli import main
from gf_core.cli.files import read_board, take_folder
from gf_core.cli.opening import open_film
from gf_core.cli.parser import COMMANDS, build_parser
from gf_core.cli.screen import ProgressLine, Screen
from gf_core.engine.events import Started, StepDone
from gf_core.engine.film import look
from gf_core.engine.recorded import read_recorded
from gf_core.engine.render import render_film
from gf_core.timeline import parse
from gf_core.video import Chapter, probe, read_chapters
from gf_core.words import exact_rate

from ..films import film_at, packets
from .tiny import CALLED, FILM, ROOT, bundle


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


def test_a_film_of_another_name_goes_on_from_the_storyboards_take(place, model, capsys):
    calls = ["render", "film.txt", "--device", "cpu", "--no-sheet", "--out"]
    assert main([*calls, "films/first.mp4"]) == 0
    assert main([*calls, "films/second.mp4"]) == 0
    assert "3 of 3 segments are as they were" in capsys.readouterr().err
    assert [take.name for take in (place / "takes").iterdir()] == ["film"]
    (place / "takes" / "third").mkdir()  # begun when a Take was called as the film
    assert main([*calls, "films/third.mp4", "--until", "1"]) == 0
    assert (place / "takes" / "third" / "run-0001").is_dir()


def test_a_take_that_is_named_goes_before_one_that_is_called_as_the_film(place):
    (place / "takes" / "third").mkdir(parents=True)
    for named, folder in ((["--take", "mine"], "mine"), ([], "takes/third")):
        args = build_parser().parse_args(["render", "film.txt", *named])
        assert take_folder(args, Path("films/third.mp4")) == Path(folder)


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


def test_a_second_render_does_not_overwrite(place, model, printed):
    assert main(["render", "film.txt", "--no-sheet"]) == 0
    assert "film.mp4 (it lay there already)" in printed("render", "film.txt", "--no-sheet")
    assert not (place / "films" / "film-2.mp4").exists()
    assert main(["render", "film.txt", "--no-sheet", "--seed", "5"]) == 0
    assert (place / "films" / "film.mp4").is_file() and (place / "films" / "film-2.mp4").is_file()


def test_until_stops_and_the_next_render_says_what_it_kept(place, model, capsys):
    assert main(["render", "film.txt", "--no-sheet", "--until", "1"]) == 0
    assert "as they were" not in capsys.readouterr().err
    assert main(["render", "film.txt", "--no-sheet"]) == 0
    assert "1 of 3 segments is as it was; the rest was not made yet" in capsys.readouterr().err
    assert probe(place / "films" / "film.mp4").frames < probe(place / "films" / "film-2.mp4").frames == 57


def test_takes_of_a_segment_and_the_one_that_is_picked(place, model, capsys, printed, refused):
    (place / "film.txt").write_bytes(FILM.replace("\n", "\r\n").encode())
    said = printed("takes", "film.txt", "--segment", "2", "--names", "sun, rain", "--device", "cpu")
    folder = place / "takes" / "film" / "segment-002"
    assert (folder / "sheet.png").is_file() and probe(folder / "rain.mp4").frames == 24
    seed = int(re.search(r"rain +seed (\d+)", said)[1])  # type: ignore[index]
    assert "to keep  grounded pick film.txt 2 NAME    (NAME: sun, rain)" in said
    assert "to be made: sun, rain, 6 chunks in all" in said  # the first segment's two, and two of each take
    for words in ("to be made: a, 2 chunks in all", "nothing has to be made: all of them are there"):
        assert words in printed("takes", "film.txt", "--segment", "2", "--seeds", "3", "--device", "cpu")

    (place / "linked.txt").symlink_to("film.txt")
    assert main(["pick", "linked.txt", "2", "rain", "--take", "takes/film"]) == 0
    assert f"seed {seed} is in line 3 of linked.txt" in capsys.readouterr().out
    changed = FILM.replace("jumps | 1.5s", f"jumps | 1.5s | seed {seed}").replace("\n", "\r\n")
    assert (place / "film.txt").read_bytes() == changed.encode() and (place / "linked.txt").is_symlink()
    assert main(["render", "film.txt", "--device", "cpu"]) == 0
    assert "2 of 3 segments are as they were" in capsys.readouterr().err

    assert "jumps | 1.5s | seed" in printed("pick", "films/film.mp4", "2", "sun")
    assert "choose one of: sun, rain" in refused("pick", "film.txt", "2", "snow")
    assert "has no takes yet" in refused("pick", "film.txt", "3", "sun")


def test_what_is_told_of_a_take_stands_under_its_name(model, capsys):
    assert main(["takes", "film.txt", "--segment", "2", "--names", "sun, rain", "--device", "cpu"]) == 0
    told = [
        line for line in capsys.readouterr().err.splitlines() if line.startswith("take ") or "as it" in line
    ]
    sun, rain, kept = told
    assert sun.startswith("take sun, seed ") and rain.startswith("take rain, seed ")
    assert kept.startswith("1 of 2 segments is as it was; segment 2: ")


@pytest.mark.parametrize(
    ("chapters", "clips", "said"),
    [
        ([], [(0, 21), (21, 24), (45, 12)], "has no chapters any more"),
        ([(0, 1), (1, 2), (2, 9)], [(0, 16), (16, 16), (32, 25)], "is shorter than its segments"),
        ([(0, 1), (1, 9), (9, 10)], [(0, 16), (16, 41)], "is shorter than its segments"),
        (None, [(0, 21), (21, 24), (45, 12)], ""),
    ],
)
def test_an_edit_of_a_film_whose_chapters_another_program_changed(
    model, monkeypatch, caplog, chapters, clips, said
):
    """Clips lie inside of the film, and it is said where they are not known, or left out."""
    assert main(["render", "film.txt", "--no-sheet"]) == 0
    if chapters is not None:
        found = [Chapter(*map(float, chapter), "") for chapter in chapters]
        monkeypatch.setattr("gf_core.video.read_chapters", lambda film: found)
    written = []
    monkeypatch.setattr("gf_core.cli.small.write_edit", lambda board, spans, *rest: written.extend(spans))
    assert main(["export", "films/film.mp4", "cut.otio"]) == 0
    assert [(span.start, span.frames) for span in written] == clips
    assert said in caplog.text if said else "film.mp4" not in caplog.text


def test_tidy_removes_old_films_and_says_so(place, model, printed, refused):
    for text in (FILM, FILM.replace("a hen", "a cow")):
        (place / "film.txt").write_text(text, encoding="utf-8")
        assert main(["render", "film.txt", "--no-sheet"]) == 0
    freed = r"run-0001: \d+ MB freed; 1 run of takes/film with a film"
    assert re.search(freed, printed("tidy", "takes/film"))
    assert "nothing to remove" in printed("tidy", "takes/film")
    assert "there is no Take at films" in refused("tidy", "films")


def test_settings_are_asked_of_a_film_that_is_there(place, capsys):
    for name, said in (
        ("film.txt", "film.txt has no settings"),
        ("fim.txt", "there is no storyboard fim.txt"),
    ):
        assert main(["open", name, "--settings"]) == 2
        printed = capsys.readouterr()
        assert said in printed.err and not printed.out


def test_the_film_is_the_project(place, model, capsys, printed, refused, caplog):
    """A film alone, in another folder, says what it was made from and makes itself again, byte for byte."""
    options = ["--size", "48x32", "--memory", "longlive", "--seed", "9", "--upscale", "2", "--no-sheet"]
    assert main(["render", "film.txt", *options]) == 0
    film = place / "films" / "film.mp4"
    film.rename(place / "kept.mp4")
    (place / "film.txt").unlink()
    assert parse(printed("open", "kept.mp4")) == replace(parse(FILM), seed=9)
    assert main(["open", "kept.mp4", "--settings"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["settings"]["video"]["width"] == 48
    assert parse(said.err) == replace(parse(FILM), seed=9)
    pytest.importorskip("opentimelineio", reason="OpenTimelineIO is not installed")
    assert main(["export", "kept.mp4", "cut.otio"]) == 0
    assert parse(printed("open", "cut.otio")) == replace(parse(FILM), seed=9)
    assert "cut.otio has no settings" in refused("open", "cut.otio", "--settings")
    edit = Path("cut.otio").read_bytes()
    assert printed("export", "kept.mp4", "cut.otio") == "3 clips in cut-2.otio\n"
    assert Path("cut-2.otio").is_file()
    assert Path("cut.otio").read_bytes() == edit
    assert main(["plan", "kept.mp4"]) == 0
    assert main(["render", "kept.mp4", "--out", "again.mp4", "--no-sheet"]) == 0
    assert "another film" not in caplog.text and "last bits" not in caplog.text
    runs = [place / "takes" / name / "run-0001" for name in ("film", "kept")]
    assert runs[0].joinpath("film.mp4").read_bytes() == runs[1].joinpath("film.mp4").read_bytes()
    assert packets(place / "kept.mp4") == packets(place / "again.mp4")
    assert read_chapters(place / "kept.mp4") == read_chapters(place / "again.mp4")


def test_another_programs_storyboard_is_planned_and_rendered(place, model, printed, caplog):
    """As it is, and to the same film as the text that `open` prints of it."""
    (place / "theirs.json").write_text(
        '{"prompts": {"0": "a fox", "24": "a hen"}, "fps": 16, "max_frames": 36}'
    )
    (place / "ours.txt").write_text(printed("open", "theirs.json"))
    for name in ("theirs.json", "ours.txt"):
        assert "2 segments" in printed("plan", name)
        assert main(["render", name, "--no-sheet"]) == 0
    assert caplog.text.count("theirs.json is settings of Deforum, read as 2 segments") == 3
    films = [place / "takes" / name / "run-0001" / "film.mp4" for name in ("theirs", "ours")]
    assert films[0].read_bytes() == films[1].read_bytes()


@pytest.mark.parametrize("command", ["plan", "render"])
def test_a_film_keeps_its_number_type(command, place, monkeypatch):
    name, asked = "gf_core.checkpoints.bundle.load_model", []
    made = bundle()
    made.model.to(torch.bfloat16)
    render_film(made, FILM, "films/film.mp4", take_folder="takes/film", sheet=False)
    monkeypatch.setattr(name, lambda *a, **options: asked.append(options["dtype"]) or made)
    for option in ([], ["--dtype", "float32"]):
        main([command, "films/film.mp4", "--device", "cpu", *option])
    assert asked == [torch.bfloat16, torch.float32]


def test_a_film_is_made_again_on_its_threads(place, model, monkeypatch):
    """And by its attention: what was chosen for it, where it can be had here and nobody asks for another."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    for count in (3, 1):
        made = replace(bundle(), threads=count)
        render_film(made, FILM, f"{count}.mp4", take_folder=f"takes/{count}", sheet=False)
        film = open_film(build_parser().parse_args(["render", f"{count}.mp4", "--device", "cpu"]))
        assert film.bundle.threads == film.threads == count


def test_what_a_film_cannot_bring_along_is_said(place, model, refused, caplog, monkeypatch):
    assert main(["render", "film.txt", "--no-sheet", "--upscale", "1"]) == 0
    monkeypatch.setitem(CALLED, "fingerprint", "retrained")
    assert main(["render", "films/film.mp4", "--out", "b.mp4", "--no-sheet"]) == 0
    assert "another film will come out" in caplog.text
    monkeypatch.setitem(CALLED, "name", "built-in")  # its name inside ComfyUI
    here = torch.backends.cpu.get_cpu_capability()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "OTHERS")
    assert main(["render", "b.mp4", "--no-sheet"]) == 0
    assert f"instructions {here}, here OTHERS" in caplog.text
    caplog.clear()
    here = torch.get_num_threads()
    render_film(replace(bundle(), threads=here + 1), FILM, "more.mp4", take_folder="more", sheet=False)
    assert main(["render", "more.mp4", "--no-sheet"]) == 0
    assert f"threads {here + 1}, here 1:" in caplog.text
    monkeypatch.setitem(CALLED, "name", "longlive_base.pt")
    assert main(["render", "film.txt", "--out", "c.mp4", "--no-sheet", "--upscale", "1"]) == 0
    assert "--model FILE" in refused("render", "c.mp4")
    film_at("foreign.mp4", np.zeros((3, 32, 32, 3), np.uint8))
    assert "no storyboard in foreign.mp4" in refused("open", "foreign.mp4")


def test_a_start_image_is_asked_for_again(place, model, capsys, refused, caplog):
    Image.new("RGB", (32, 32), (90, 90, 90)).save("start.png")
    assert main(["render", "film.txt", "--start-image", "start.png", "--no-sheet"]) == 0
    digest = sha256(Path("start.png").read_bytes()).hexdigest()
    assert f"start    start.png (SHA-256 {digest[:12]})" in capsys.readouterr().out
    said = refused("render", "films/film.mp4")
    assert f"began from start.png (SHA-256 {digest[:12]})" in said and "--start-image" in said
    recorded = read_recorded("films/film.mp4").everything["settings"]["start"]
    assert recorded == {"name": "start.png", "sha256": digest, "pictures": 1}
    assert main(["plan", "films/film.mp4", "--device", "cpu"]) == 0
    assert f"not counted: start.png (SHA-256 {digest[:12]})" in capsys.readouterr().out
    assert "nothing.pt" in refused("plan", "films/film.mp4", "--device", "cpu", "--model", "nothing.pt")
    Image.new("RGB", (32, 32), (9, 9, 9)).save("dark.png")
    for name, said in ((shutil.copy("start.png", "renamed.png"), 0), ("dark.png", 1)):
        caplog.clear()
        open_film(build_parser().parse_args(["render", "films/film.mp4", "--start-image", name]))
        assert caplog.text.count("another one may come out") == said
    assert main(["render", "film.txt", "--start-video", "films/film.mp4", "--no-sheet"]) == 0
    assert main(["render", "film.txt", "--start-video", "none.mp4", "--no-sheet"]) == 2
    assert "start video cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize(("given", "lead"), [(None, 0), ("--start-image", 1), ("--start-video", 3)])
def test_the_plan_counts_what_the_film_begins_with(place, model, printed, given, lead):
    Image.new("RGB", (32, 32), (90, 90, 90)).save("start.png")
    film_at("start.mp4", np.zeros((24, 32, 32, 3), np.uint8))
    start = [given, "start.png" if lead == 1 else "start.mp4"] if given else []
    asked = ["film.txt", *start, "--device", "cpu", "--memory", "infinity_rope"]
    told = [line for line in printed("plan", *asked).splitlines() if line.startswith("start ")]
    film = open_film(build_parser().parse_args(["render", *asked]))
    assert film.frames(5) == 57 + 4 * lead and len(told) == bool(lead)
    if lead:
        assert f"{start[1]} (SHA-256" in told[0] and f": {4 * lead / 16:.2f} s more" in told[0]
        assert main(["plan", "film.txt", start[0], "none.png"]) == 2


def test_a_plan_is_asked_as_a_render_is(place, model, monkeypatch, capsys, refused):
    assert COMMANDS["plan"].arguments == COMMANDS["render"].arguments
    looked = []
    monkeypatch.setattr("gf_core.engine.film.look", lambda *seen: looked.append(seen[1:]) or look(*seen))
    (place / "takes" / "best").mkdir(parents=True)
    assert main(["plan", "film.txt", "--device", "cpu", "--out", "best.mp4", "--until", "1"]) == 0
    assert looked == [(Path("takes/best"), 1)]
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert "1 of 3 segments, 2 chunks, 21 pictures" in head
    assert rows[0].startswith("  1  start") and rows[1].startswith("memory")
    for wrong, said in (
        (["--lora", "none.pt"], "there is no none.pt"),
        (["--out", "film.gif"], "film.gif cannot be saved"),
    ):
        assert said in refused("plan", "film.txt", "--device", "cpu", *wrong)


def test_ctrl_c_keeps_the_film_so_far_and_says_where(place, model, monkeypatch, capsys):
    shown = []

    def interrupt(self, text):
        shown.append(text)
        if len(shown) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(ProgressLine, "show", interrupt)
    assert main(["render", "film.txt"]) == 130
    said = capsys.readouterr().err
    kept = place / "takes" / "film" / "run-0001" / "film.mp4"
    assert str(kept.relative_to(place)) in said and "Traceback" not in said
    assert probe(kept).frames >= 21
    assert not (place / "films" / "film.mp4").exists()


def test_ctrl_c_says_what_there_is_of_the_film(place, model, monkeypatch, capsys):
    """Before anything is new, and while the whole film is saved; the next command saves it."""

    def stop(*given, **words):
        raise KeyboardInterrupt

    def stop_at(screen, told, at, tell=Screen.tell):
        if isinstance(told, at):
            raise KeyboardInterrupt
        tell(screen, told)

    run = Path("takes") / "film" / "run-0001" / "film.mp4"
    with monkeypatch.context() as patch:
        patch.setattr("gf_core.engine.render.place_film", stop)
        for _ in range(2):  # made now, and found whole
            assert main(["render", "film.txt"]) == 130
            assert f"stopped: all of the film lies in {run}; run again" in capsys.readouterr().err
    assert main(["render", "film.txt"]) == 0 and Path("films", "film.mp4").is_file()
    (place / "film.txt").write_text(FILM.replace("a hen", "a cow"), encoding="utf-8")
    capsys.readouterr()
    for event, said in (
        (Started, "made\n"),
        (StepDone, "made: 0:03 of film is in takes/film; run again to go on"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(Screen, "tell", lambda self, told, at=event: stop_at(self, told, at))
            assert main(["render", "film.txt"]) == 130
        assert f"stopped before anything new was {said}" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--seed=9", "--fps=23.976", "--take=elsewhere"])
def test_the_command_that_keeps_a_take_finds_it(option, place, model, capsys):
    assert main(["takes", "film.txt", "--segment", "2", "--seeds", "2", option, "--device", "cpu"]) == 0
    told = capsys.readouterr().out.splitlines()[-1].removeprefix("to keep  grounded").partition("   (")[0]
    assert main(["b" if word == "NAME" else word for word in shlex.split(told)]) == 0
    assert "in line 3 of film.txt" in capsys.readouterr().out


def test_storyboard_from_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(FILM))
    text, board = read_board(build_parser().parse_args(["plan", "-"]))
    assert text == FILM and len(board.segments) == 3


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_in_a_real_process(place):
    code = (
        f"import signal, sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a test run in the background ignores it
        "import gf_core.checkpoints.bundle as r\n"
        "from tests.cli.tiny import bundle\n"
        "r.load_model = lambda *a, **k: bundle()\n"
        "from gf_core.cli import main\n"
        "sys.exit(main(['render', 'slow.txt', '--upscale', '1']))\n"
    )
    (place / "slow.txt").write_text("a fox | 600s\n", encoding="utf-8")
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
def test_rates_that_are_not_whole(said, rate, place, model, capsys, printed):
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
    assert packets(film) == packets(place / "again.mp4")
    (place / "whole.txt").write_text("a red fox walks right in a meadow at noon | 1s", encoding="utf-8")
    assert f"{float(exact):.5g} fps" in printed("plan", "whole.txt", "--fps", said)
