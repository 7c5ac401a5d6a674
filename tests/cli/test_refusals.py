"""What is wrong with a command is said in words, with status 2."""

from __future__ import annotations

import errno
import io
import sys
from pathlib import Path

import pytest

from gf_core.checkpoints.bundle import load_model
from gf_core.cli import main
from gf_core.cli.filming import Job, make
from gf_core.cli.parser import build_parser
from gf_core.errors import CheckpointError

from .tiny import python


@pytest.mark.parametrize("command", ["render", "plan", "open"])
def test_errors_are_words_on_stderr_and_status_2(command, model, refused):
    Path("wrong.txt").write_text("a fox\nthan: it runs | 5s\n", encoding="utf-8")
    said = refused(command, "wrong.txt")
    assert "line 2, column 1" in said and "wrong.txt" in said and "did you mean 'then:'?" in said
    assert "did you mean film.txt?" in refused(command, "fil.txt")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("plan sea.txt", "line 3, column 28: there is no picture me.png of Me in this folder (in sea.txt)"),
        ("render sea.txt", "line 3, column 28: there is no picture me.png of Me in this folder (in sea.txt)"),
        ("plan sea.txt --seed 3", "of Me in this folder (in the storyboard made of sea.txt)"),
        ("plan -", "of Me in this folder (in standard input)"),
        ("export bad.txt cut.edl", "line 2, column 1: unknown verb 'than:' (in bad.txt)"),
    ],
)
def test_an_error_in_the_text_names_its_file_whenever_it_is_found(command, said, place, refused, monkeypatch):
    sea = "# A day\n\n    @cast Me = a red fox | me.png\n{Me} sleeps on a beach\n"
    Path("sea.txt").write_text(sea, encoding="utf-8")
    Path("bad.txt").write_text("a fox\nthan: it runs\n", encoding="utf-8")
    monkeypatch.setattr("sys.stdin", io.StringIO(sea))
    assert said in refused(*command.split())
    job = Job(build_parser().parse_args(["render", "sea.txt"]), Path("films/sea.mp4"), Path("takes/sea"))
    assert "of Me in this folder (in sea.txt); fix: " in make(job, lambda state: None).words


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "ran out of memory"),
        (RuntimeError("can't start new thread"), "ran out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "ran out of memory"),
        (OSError(errno.EMFILE, "Too many open files"), "no more files may be opened"),
        (ModuleNotFoundError("No module named 'av'", name="av"), "the package av is not installed"),
        (ModuleNotFoundError("No module named 'PIL.Image'", name="PIL.Image"), "pip install pillow"),
    ],
)
def test_what_the_computer_lacks_is_said_in_words(error, said, refused, monkeypatch):
    def short(*given, **named):
        raise error

    monkeypatch.setattr("gf_core.cli.plan.read_board", short)
    assert said in refused("plan", "film.txt")


def test_a_module_of_our_own_that_is_missing_is_a_fault_and_stays_one(monkeypatch):
    def broken(*given, **named):
        raise ModuleNotFoundError("No module named 'gf_core.gone'", name="gf_core.gone")

    monkeypatch.setattr("gf_core.cli.plan.read_board", broken)
    with pytest.raises(ModuleNotFoundError, match=r"gf_core\.gone"):
        main(["plan", "film.txt"])


ABSENT = """
import sys
from gf_core.cli import main
for command in ("render film.txt --model", "plan film.txt --model", "takes film.txt --segment 1 --model", "inspect"):
    for model in sys.argv[1:]:
        assert main([*command.split(), model]) == 2
assert "torch" not in sys.modules
"""


def test_a_model_that_is_not_there_is_refused_in_the_same_words_before_torch_is_imported():
    models = [
        "nope.pt",
        "nowhere/nope.pt",
        "~/nope",
        "~of-no-user/nope.pt",
        "~nope.pt",
        "gueraf/Self-Forcing-diffusers",
    ]
    words = []
    for model in models:
        with pytest.raises(CheckpointError) as caught:
            load_model(model)
        words.append(f"grounded: {caught.value}\n")
    done = python("-c", ABSENT, *models)
    assert done.returncode == 0 and done.stderr == "".join(words) * 4
    assert "no nope.pt in ." in words[0] and "download " in words[-1]


def test_no_traceback_in_a_real_process():
    done = python("-m", "gf_core", "plan", "absent.txt")
    assert done.returncode == 2 and "Traceback" not in done.stderr and "fix:" in done.stderr


@pytest.mark.parametrize("content", [b"\xff\xfe\x00bad", b"\x80"])
def test_binary_storyboards_are_refused(content, refused):
    Path("film.bin").write_bytes(content)
    assert "film.bin, line 1: the byte " in refused("plan", "film.bin")
    Path("film.mp4").write_bytes(content)
    assert "is not a film" in refused("plan", "film.mp4")


def test_a_place_that_cannot_be_written(refused, monkeypatch):
    monkeypatch.setattr("gf_core.cli.evaluate.evaluate_film", lambda *arguments: {})
    below = "film.txt/below/x.json"
    assert "film.txt" in refused("evaluate", "x.mp4", "--storyboard", "film.txt", "--json", below)


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
def test_names_that_no_disk_takes_are_refused_in_words(command, model, refused):
    assert refused(*command).startswith("grounded: ")


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
def test_a_name_that_is_empty_is_refused(command, place, model, refused):
    assert "it names no file" in refused(*command)
    assert not model and not (place / "run-0001").exists()


@pytest.mark.parametrize("size", ["832", "832x", "x480", "832*480", "8x8", "99999x16", "-16x16"])
def test_sizes_that_are_none(size, refused):
    assert "--size" in refused("plan", "film.txt", f"--size={size}")


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        (["plan", "film.txt", "--colour"], "usage: grounded plan "),
        (["plan", "film.txt", "another.txt"], "usage: grounded plan "),
        (["--colour"], "usage: grounded [-h] COMMAND"),
    ],
)
def test_an_unknown_option_is_refused_by_its_command(command, usage, refused):
    said = refused(*command)
    assert said.startswith(usage) and f"unrecognized arguments: {command[-1]}" in said


def test_inspect_knows_a_name_of_its_list(refused):
    said = refused("inspect", "self_forcing")
    assert "published checkpoint" in said
    assert "download checkpoints/self_forcing_dmd.pt from https://huggingface.co/gdhe17/Self-Forcing" in said


def test_inspect_refuses_what_is_no_model(refused):
    assert "fix:" in refused("inspect", "film.txt")


def test_a_device_that_is_not_there(refused):
    assert "--device cpu" in refused("bench", "--shape", "tiny", "--device", "nonsense")


@pytest.mark.parametrize("wrong", ["0", "121", "0.5", "-3", "23.97654", "24/0", "fast", "nan"])
def test_rates_that_are_none(wrong, refused):
    assert "--fps" in refused("plan", "film.txt", f"--fps={wrong}")


def test_all_unknown_words_are_named_before_anything_is_tried(place, refused, monkeypatch):
    monkeypatch.setattr("gf_core.estimate.trial.try_out", None)
    (place / "film.txt").write_text(
        "a red fux walks in a meadow at noon\nthen: it danses | 2s\ncut: a unicorn\n"
    )
    for command in ("plan", "render"):
        said = refused(command, "film.txt")
        assert "line 1, column 7" in said and "fux (line 1), danses (line 2), unicorn (line 3)" in said
        assert "did you mean fox for fux, dances for danses?" in said and len(said) < 600


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a name is always text")
def test_names_that_are_no_text(model, refused, monkeypatch):
    """As of an archive of long ago: what takes them is given them, what does not is refused in words."""
    bad = "f\udcff"
    Path(f"{bad}.txt").write_bytes(Path("film.txt").read_bytes())
    assert main(["render", f"{bad}.txt", "--take", "take"]) == 0
    (film,) = Path("films").glob("*.mp4")
    assert film.stem == bad and main(["open", str(film)]) == 0
    renders = ["render", "film.txt", "--take", bad], ["render", f"{bad}.txt"]
    for command in (*renders, ["export", "film.txt", f"{bad}.otio"], ["export", str(film), "cut.otio"]):
        assert "not text in UTF-8" in refused(*command)
    assert not Path(bad).exists() and not Path("cut.otio").exists()


@pytest.mark.parametrize(
    ("command", "fix"),
    [
        (["plan", "my", "film.txt"], "in quotes: 'my film.txt'"),
        (["export", "my", "film.txt", "a.otio"], "in quotes, such as"),
        (["plan", "film.txt", "--memry", "longlive"], "did you mean --memory?"),
        (["render"], "STORYBOARD\n  fix: grounded render --help says"),
        (["train"], "required: WHAT\n  fix: grounded train --help says"),
        (["plan", "film.txt", "--memory", "longlve"], "did you mean longlive?"),
        (["rendr", "film.txt"], "did you mean render?"),
    ],
)
def test_a_slip_on_the_command_line_is_answered_with_what_was_meant(command, fix, refused):
    Path("my film.txt").write_text("a fox\n", encoding="utf-8")
    assert fix in refused(*command)
