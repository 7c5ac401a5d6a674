"""What a training tells, and what one that is refused leaves of it."""

import logging

import pytest

from gf_core.errors import GroundedError
from gf_core.train.journal import open_log, set_up_log


def test_lines_are_held_until_there_is_something_to_keep(tmp_path):
    log = tmp_path / "run" / "train.log"
    for begun in (False, True):
        set_up_log(log.parent)
        logging.getLogger("grounded").info("begun: %s", begun)
        assert not log.exists()
        if begun:
            open_log(log.parent)
    logging.getLogger("grounded").info("goes on")
    assert [line.partition(" ")[2] for line in log.read_text().splitlines()] == ["begun: True", "goes on"]
    logging.basicConfig(force=True)  # lets go of the log


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
