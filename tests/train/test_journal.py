"""What a training tells, and what one that is refused leaves of it."""

import contextlib
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gf_core.errors import GroundedError
from gf_core.train.journal import open_log, or_nothing, set_up_log


def test_a_folder_of_a_kept_run_keeps_what_a_failing_one_says(tmp_path):
    with pytest.raises(ZeroDivisionError), or_nothing(tmp_path / "run"):
        set_up_log(tmp_path / "run")
        open_log(tmp_path / "run")
        logging.getLogger("grounded").info("begun")
        (tmp_path / "run" / "step.pt").write_text("kept")
        raise ZeroDivisionError
    assert "begun" in (tmp_path / "run" / "train.log").read_text()


def _refused(folder: Path, meanwhile=lambda: None) -> None:
    with pytest.raises(ZeroDivisionError), or_nothing(folder):
        set_up_log(folder)
        open_log(folder)
        meanwhile()
        raise ZeroDivisionError


ANOTHER = """
import sys, logging
from pathlib import Path
from gf_core.train.journal import open_log, set_up_log
set_up_log(Path(sys.argv[1]))
open_log(Path(sys.argv[1]))
logging.getLogger("grounded").info("of another")
print("begun", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(os.name == "nt", reason="a log that is open cannot be removed there")
@pytest.mark.parametrize("before", [None, "of before\n"])
def test_a_refused_training_leaves_the_log_of_another_that_is_under_way(tmp_path, before):
    folder = tmp_path / "run"
    if before:
        folder.mkdir()
        (folder / "train.log").write_text(before)
    with contextlib.ExitStack() as end:

        def begin() -> None:
            another = subprocess.Popen(
                [sys.executable, "-c", ANOTHER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            end.enter_context(another)
            assert another.stdout and another.stdout.readline() == b"begun\n"

        _refused(folder, begin)
        assert "of another" in (folder / "train.log").read_text()


def test_a_refused_training_never_lengthens_a_log_or_touches_a_new_one(tmp_path):
    log = tmp_path / "train.log"
    log.write_text("of before\n" * 9)
    _refused(tmp_path, lambda: log.write_text("new\n"))
    assert log.read_text() == "new\n"

    def turn_over() -> None:
        log.rename(tmp_path.parent / "old.log")
        log.write_text("of another\n")

    _refused(tmp_path, turn_over)
    assert log.read_text() == "of another\n"


def test_a_refused_training_leaves_links_and_closes_its_log(tmp_path):
    log = tmp_path / "run" / "train.log"
    log.parent.mkdir()
    log.symlink_to(tmp_path / "elsewhere.log")
    _refused(tmp_path / "run" / ".." / "run")
    assert log.is_symlink() and not (tmp_path / "elsewhere.log").exists()
    assert not [one for one in logging.getLogger().handlers if isinstance(one, logging.FileHandler)]


def test_a_link_to_nothing_is_no_folder(tmp_path):
    (tmp_path / "run").symlink_to(tmp_path / "gone")
    with pytest.raises(GroundedError, match="run is a link to nothing, and a run needs a folder"):
        set_up_log(tmp_path / "run")


@pytest.mark.parametrize("inside", ["", "run"])
def test_a_file_in_the_place_of_the_folder_is_told(tmp_path, inside):
    there = tmp_path / "afile"
    there.write_text("")
    with pytest.raises(
        GroundedError, match=r"afile is a file, and a run needs a folder\n  fix: name another one"
    ):
        set_up_log(there / inside)
