"""Many storyboards by one command: each a film of its own, whatever happens to another."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gf_core.cli import filming, main
from gf_core.cli.asked import Asked
from gf_core.cli.parser import build_parser
from gf_core.engine.recorded import read_recorded
from gf_core.take.folder import Take

ROOT = Path(__file__).parents[2]
BOARDS = {"bad": "a fox\nnonsense: x", "fox": "a red fox walks right in a meadow at noon | 0.75s"}
SMALL = ["--device", "cpu", "--size", "32x32", "--upscale", "1", "--no-sheet"]


@pytest.fixture
def farm(tmp_path, monkeypatch, capsys):
    """What `grounded farm` says of the boards: exit status, and by film its state and the words behind it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "boards").mkdir()
    for name, text in BOARDS.items():
        (tmp_path / "boards" / f"{name}.txt").write_text(text)

    def run(*options):
        status = main(["farm", "boards", *SMALL, *options])
        said = capsys.readouterr()
        rows = [line.split(None, 3) for line in said.out.splitlines()[1:]]
        return status, {row[0]: (row[1], row[3] if len(row) > 3 else "") for row in rows}, said.err

    return run


def test_every_film_is_made_once_and_one_that_fails_stops_no_other(farm, tmp_path):
    """Also where a name reads as a pattern of names."""
    fox = tmp_path / "boards" / "fox[1].txt"
    fox.with_name("fox.txt").rename(fox)
    status, films, _ = farm()
    assert status == 2 and [films[name][0] for name in ("bad", fox.stem)] == ["failed", "done"]
    assert "line 2, column 1: unknown verb" in films["bad"][1] and "; fix: did" in films["bad"][1]
    before = set(tmp_path.rglob("*.mp4"))
    (tmp_path / "boards" / "bad.txt").unlink()
    fox.write_text(BOARDS["fox"].replace("noon", "night"))
    status, films, _ = farm()
    assert status == 0 and films[fox.stem][0] == "done" and films[fox.stem][1].endswith("fox[1]-2.mp4")
    assert before < set(tmp_path.rglob("*.mp4"))
    assert farm()[1][fox.stem] == ("there", films[fox.stem][1])


def test_films_that_cannot_be_listed_are_not_made_again(farm, tmp_path, unlisted):
    Path("films").mkdir()
    unlisted(tmp_path / "films")
    status, films, said = farm()
    assert status == 2 and films["fox"][0] == "waiting"
    assert "films cannot be listed: Input/output error" in said


OTHER = {
    "size or speed": ["--size", "48x32"], "memory": ["--memory", "self_forcing"], "encoding": ["--upscale", "2"],
    "number type": ["--dtype", "bfloat16"], "decoder": ["--fit", "tiles=16"], "model": ["--fit", "fp8"],
    "attention": ["--attention", "sage"], "sampler": ["--noise", "comfyui"],
}  # fmt: skip


def test_a_film_made_with_other_options_is_made_again(farm, caplog):
    Path("boards/bad.txt").unlink()
    assert farm()[1]["fox"][0] == "done"
    kept = read_recorded("films/fox.mp4")
    for what, options in OTHER.items():
        args = build_parser().parse_args(["farm", "boards", *SMALL, *options])
        assert Asked(args).other(kept, 16) == [what]
    caplog.set_level("INFO", "grounded")
    assert farm("--upscale", "2")[1]["fox"] == ("done", str(Path("films/fox-2.mp4").resolve()))
    assert "fox.mp4 was made with another encoding: made again" in caplog.text
    for options, name in (([], "fox.mp4"), (["--upscale", "2"], "fox-2.mp4")):
        assert farm(*options)[1]["fox"] == ("there", str(Path("films", name).resolve()))


def test_the_second_film_of_a_long_name_is_found_again(farm):
    Path("boards/bad.txt").unlink()
    name = Path("boards/fox.txt").rename(Path("boards", "é" * 125 + "x.txt")).stem
    assert [farm()[1][name][0] for _ in range(2)] == ["done", "there"]
    assert [farm("--upscale", "2")[1][name][0] for _ in range(2)] == ["done", "there"]


def test_names_are_names_whatever_lies_here(farm, tmp_path):
    """A folder that is called as a device, a memory or the built-in model is; a storyboard with a line in its name."""
    for name in ("cpu", "builtin", "grounded"):
        (tmp_path / name).mkdir()
    (tmp_path / "boards" / "bad.txt").rename(tmp_path / "boards" / "bad\nname.txt")
    status, films, _ = farm("--model", "builtin", "--memory", "grounded")
    assert status == 2 and films["fox"][0] == "done" and films["bad\\nname"][0] == "failed"


def test_a_film_that_another_command_is_making_is_left_to_it_and_asked_for_again(farm, tmp_path, monkeypatch):
    """Before a model is opened for it; it is made here where the other has left it."""
    for name in BOARDS:
        (tmp_path / "boards" / f"{name}.txt").write_text(BOARDS["fox"])
    opened, open_film = [], filming.open_film
    with contextlib.ExitStack() as other:
        other.enter_context(Take.open("takes/bad"))
        monkeypatch.setattr(filming, "open_film", lambda *given: (opened.append(1), open_film(*given))[1])
        status, films, said = farm()
        assert (status, films["bad"][0], films["fox"][0], len(opened)) == (2, "held", "done", 1)
        assert "is in use by this process; fix: run the same again when that has ended" in films["bad"][1]
        assert said.count("is in use by") == 2

        def leave(*given):
            other.close()
            return open_film(*given)

        monkeypatch.setattr(filming, "open_film", leave)
        (tmp_path / "boards" / "fox.txt").write_text(BOARDS["fox"].replace("noon", "night"))
        status, films, _ = farm()
        assert status == 0 and [films[name][0] for name in BOARDS] == ["done", "done"]


def test_ctrl_c_stops_all_and_says_how_far_each_is(farm, monkeypatch):
    def interrupted(args, team):
        raise KeyboardInterrupt

    monkeypatch.setattr(filming, "open_film", interrupted)
    status, films, said = farm()
    assert status == 130 and "the same command goes on" in said
    assert [films[name][0] for name in BOARDS] == ["stopped", "waiting"]


def test_no_ten_seconds_pass_without_a_line(farm, monkeypatch):
    """However long a model is opened or compiled, of which no event tells."""
    monkeypatch.setattr("gf_core.cli.screen.SILENCE", 0.0)
    monkeypatch.setattr(filming, "open_film", lambda *_: time.sleep(0.7))
    assert "1 of 2 films, making fox 0%\n" * 2 in farm()[2]


def test_a_folder_without_storyboards_and_a_cluster_without_ray_are_refused(
    farm, tmp_path, monkeypatch, refused
):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "pip install 'grounded-forcing[farm]'" in refused("farm", "boards", *SMALL, "--ray")
    (tmp_path / "empty").mkdir()
    for folder, said in (("nowhere", "there is no folder"), ("empty", "holds no storyboards")):
        assert said in refused("farm", str(tmp_path / folder), *SMALL)


WORKER = """
import json, signal, sys
import ray
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it, and so do its children
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
from gf_core.cli import main
print("ready", flush=True)
sys.exit(main(json.loads(sys.argv[1])))
"""


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="ray is not installed (pip install 'grounded-forcing[farm]')",
)
def test_two_workers_of_a_cluster_make_the_films_of_one_process(farm, tmp_path):
    """And Ctrl-C ends both, whose films the next command goes on with."""
    for name in BOARDS:
        (tmp_path / "boards" / f"{name}.txt").write_text(BOARDS["fox"].replace("0.75s", "60s"))
    command = ["farm", "boards", *SMALL, "--ray"]

    def start():
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [sys.executable, "-c", WORKER, json.dumps(command)],
            env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    first = start()
    # A run whose film has no picture yet is not gone on with in place: the next one takes its latents over.
    while sum(b'"chunk"' in path.read_bytes() for path in tmp_path.glob("takes/*/run-*/journal.jsonl")) < 2:
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.1)
    first.send_signal(signal.SIGINT)
    said = first.communicate(timeout=120)[0]
    assert first.returncode == 130 and said.count("stopped") >= 2, said
    second = start()
    said = second.communicate(timeout=300)[0]
    assert second.returncode == 0, said
    runs = sorted(tmp_path.glob("takes/*/run-*"))
    assert len(runs) == 2, "both went on where they were"
    reports = [json.loads((tmp_path / "films" / f"{name}_report.json").read_text()) for name in BOARDS]
    assert all(report["reuse"]["chunks"] for report in reports)
