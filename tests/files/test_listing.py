"""A folder that cannot be listed is said, where it could be taken for an empty one."""

from __future__ import annotations

from pathlib import Path

import pytest

from gf_core.cli import main
from gf_core.errors import GroundedError
from gf_core.files.listing import below, inside


def test_what_lies_in_a_folder_is_told_by_name(tmp_path: Path) -> None:
    (tmp_path / "b" / "c").mkdir(parents=True)
    (tmp_path / "d").symlink_to(tmp_path / "b")
    for name in ("b/2", "b/c/1", "a"):
        (tmp_path / name).touch()
    assert [path.name for path in inside(tmp_path)] == ["a", "b", "d"]
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert [path for path in below(tmp_path) if path.name != "d"] == files
    assert inside(tmp_path / "no") == below(tmp_path / "no") == inside(tmp_path / "a") == []


def test_one_that_cannot_be_listed_is_named(tmp_path: Path, unlisted) -> None:
    (tmp_path / "inner").mkdir()
    unlisted(tmp_path / "inner")
    for ask, folder in ((inside, tmp_path / "inner"), (below, tmp_path)):
        with pytest.raises(GroundedError, match="inner cannot be listed: Input/output error\n  fix: check"):
            ask(folder)


@pytest.mark.parametrize("command", ["farm", "evaluate", "tidy"])
def test_no_command_takes_it_for_an_empty_one(
    command: str, tmp_path: Path, unlisted, capsys, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "given").mkdir()
    unlisted(tmp_path / "given")
    assert main([command, str(tmp_path / "given")]) == 2
    assert "given cannot be listed: Input/output error" in capsys.readouterr().err
    assert [path.name for path in tmp_path.glob("*")] == ["given"]
