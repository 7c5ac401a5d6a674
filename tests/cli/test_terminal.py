"""Progress, silence, and what every terminal and code page can show."""

from __future__ import annotations

import errno
import io
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from gf_core.cli import files, main
from gf_core.cli.screen import ProgressLine, Screen, progress_line
from gf_core.engine.events import StepDone
from gf_core.files import atomic
from gf_core.video import place_film

from ..films import film_at
from .tiny import FILM, python

BUILTIN = Path(__file__).parents[1] / "fixtures/made_before/builtin.mp4"


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


@pytest.mark.parametrize(
    ("step", "said"), [(2, "step 2 of 4"), (4, "steps done, its pictures")], ids=["a step", "the last step"]
)
def test_a_long_silence_is_broken(monkeypatch, capsys, step, said):
    monkeypatch.setattr("gf_core.cli.screen.SILENCE", 0.0)
    screen = Screen()
    with screen.shown():
        screen.tell(StepDone(3, 9, 1, step, 4, 0.3))
        time.sleep(0.5)
    assert f"chunk 4 of 9, {said}, 30%" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["evaluate", str(BUILTIN)], ["drift", str(BUILTIN), "chart.png"]])
def test_a_command_without_progress_says_for_how_long_it_goes_on(words, monkeypatch, capsys, place):
    monkeypatch.setattr("gf_core.cli.screen.SILENCE", 0.0)
    monkeypatch.setattr("gf_core.cli.screen.PAUSE", 0.0)
    monkeypatch.setattr("gf_core.cli.screen.LOOK", 0.005)  # a chart of so short a film takes a moment
    assert main(words) == 0
    assert "measuring builtin.mp4  0:00" in capsys.readouterr().err


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
    for more in ([], ["--settings"]):
        assert main(["open", "狐狸.mp4", *more]) == 0
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
    film_at("plain.mp4", np.zeros((3, 32, 32, 3), np.uint8))
    place_film("plain.mp4", "evil.mp4", metadata={"timeline": evil + FILM})
    assert main(["open", "evil.mp4"]) == 0
    assert main(["plan", "\x1b[2J.txt"]) == 2 and main(["plan", "evil.mp4"]) == 2
    with pytest.raises(SystemExit):
        main(["plan", "film.txt", "--size", "\x1b[2J"])
    shown = out.getvalue() + err.getvalue()
    assert "\\x1b]0;mine\\x07" in shown and not set("\x1b\x07\x9b\u202e") & set(shown)


def test_streams_that_are_closed(place, model, monkeypatch, refused):
    """Nothing can be read from them, and their numbers go to no file of ours: a library's notes would go into that."""
    monkeypatch.setattr(sys, "stdin", None)
    assert "no standard input" in refused("plan", "-")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)
        patch.setattr(sys, "stderr", None)
        assert main(["render", "film.txt"]) == 0 and main(["plan", "absent.txt"]) == 2
    close = "import os, sys; os.close(1); os.close(2); sys.stdout = sys.stderr = None; from gf_core.cli import main; "
    done = python("-c", f"{close} main(['plan', 'absent.txt']); sys.exit(os.open('film.txt', os.O_RDONLY))")
    assert done.returncode > 2


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a file that never ends, and pipes")
@pytest.mark.parametrize("command", ["plan", "open"])
def test_a_storyboard_that_never_ends_or_begins_is_refused(command, place, monkeypatch, capsys):
    os.mkfifo("pipe")
    assert main([command, "pipe"]) == 2 and "is a pipe" in capsys.readouterr().err
    monkeypatch.setattr(files, "LARGEST", 10_000)
    assert main([command, "/dev/zero"]) == 2
    endless = io.TextIOWrapper(io.BufferedReader(io.FileIO("/dev/zero")))
    monkeypatch.setattr(sys, "stdin", endless)
    assert main([command, "-"]) == 2
    assert capsys.readouterr().err.count("no storyboard has") == 2


def forbidden(name):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", name)

    return refuse


def test_what_may_not_be_read_is_said_with_what_to_do(place, monkeypatch, refused):
    """Rights do not keep an administrator out, who may be running this."""
    with monkeypatch.context() as patch:
        patch.setattr(files, "_read_bytes", forbidden("film.txt"))
        assert "cannot be read: Permission denied\n  fix: check your rights to the file" in refused(
            "plan", "film.txt"
        )
    monkeypatch.setattr("gf_core.cli.small.read_text", forbidden("film.mp4"))
    assert "grounded: film.mp4: Permission denied\n  fix: check your rights" in refused("open", "film.mp4")


def test_a_model_that_may_not_be_looked_at_is_called_what_it_was_called(place, monkeypatch, refused):
    def stat(path, *, real=os.stat, **options):
        return forbidden(str(path))() if "closed" in Path(os.fsdecode(path)).parts else real(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    said = refused("plan", "film.txt", "--model", "closed/m.safetensors")
    assert (
        "m.safetensors cannot be read: Permission denied" in said and "check the path and your rights" in said
    )


@pytest.mark.parametrize(
    "words",
    [["drift", "film.mp4"], ["evaluate", "film.mp4", "--json", "a.json"], ["bench", "--json", "a.json"]],
)
def test_where_nothing_can_be_written_nothing_is_measured(words, place, monkeypatch, refused):
    film_at("film.mp4", np.zeros((9, 48, 64, 3), np.uint8))
    monkeypatch.setattr(atomic.tempfile, "TemporaryFile", forbidden("."))
    for name in ("evaluate.drift_chart", "evaluate.evaluate_film"):
        monkeypatch.setattr(f"gf_core.cli.{name}", forbidden("measured"))
    monkeypatch.setattr("gf_core.checkpoints.bundle.load_model", forbidden("measured"))
    assert "no permission to write: trying the folder failed at ." in refused(*words)


@pytest.mark.parametrize("module", ["terminal", "parser", "options"])
def test_ctrl_c_before_a_command_has_begun_is_said_in_a_line(module):
    code = (
        "import sys\n"
        "class Stop:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == 'gf_core.cli.{module}':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Stop())\n"
        "from gf_core.cli import program; program()"
    )
    done = python("-c", code)
    assert (done.returncode, done.stderr) == (130, "grounded: stopped\n")
