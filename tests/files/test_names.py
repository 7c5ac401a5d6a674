"""A name that one system refuses is refused on all."""

from __future__ import annotations

import os

import pytest

from gf_core.files.atomic import fitting, shortened
from gf_core.files.names import DEEPEST, LONGEST, fault_along, fault_of

DEVICES = ["CON", "nul", "Aux", "prn.txt", "COM1", "com9.tar.gz", "LPT¹", "CONIN$", "nul .txt"]
SIGNS = [f"a{sign}b" for sign in '\x00\n\x1f\x7f<>:"|?*\\/']
OTHERS = ["", " ", "..", "fox.", "fox ", "fo\ud83dx", "\udc80", "x" * (LONGEST + 1), "ü" * 128]


@pytest.mark.parametrize("name", DEVICES + SIGNS + OTHERS)
def test_it_is_refused_in_words(name: str) -> None:
    assert fault_of(name)


@pytest.mark.parametrize(
    "name",
    [
        "film",
        "a fox",
        "狐の旅",
        "v1.2",
        ".hidden",
        "console",
        "com",
        "com10",
        "null",
        "x" * LONGEST,
        "ü" * 127,
    ],
)
def test_it_is_taken(name: str) -> None:
    assert fault_of(name) == ""


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("name", [*DEVICES[:2], *SIGNS[:2], *OTHERS])
def test_a_path_is_refused_for_any_of_its_parts(name: str, at: int) -> None:
    parts = ["monday", "fox", "film"]
    parts[at] = name
    assert fault_along(parts)


def test_a_path_is_refused_for_its_length_and_for_what_comes_behind() -> None:
    assert fault_along(["x" * 50] * (DEEPEST // 50))
    assert not fault_along(["x" * 215], behind=40) and fault_along(["x" * 216], behind=40)


def test_a_name_is_cut_as_names_are_written_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """In most places in UTF-8; in a locale of old with a byte for a letter."""
    for code, most in (("utf-8", 127), ("latin-1", 255)):
        monkeypatch.setattr(os, "fsencode", lambda name, code=code: name.encode(code, "surrogateescape"))
        assert shortened("fü") == "fü" and shortened("ü" * 300) == "ü" * most
        assert shortened("f\udcff") == "f\udcff" and shortened("fox", 0) == shortened("fox", -1) == ""


def test_what_two_long_names_are_cut_to_differs_and_stays_the_same() -> None:
    assert fitting("fox", "_sheet.png") == "fox_sheet.png"
    assert fitting("x" * 245, "_sheet.png") == "x" * 245 + "_sheet.png"
    names = ["狐" * 82 + letter for letter in "ab"]
    cut = [fitting(name, "_sheet.png") for name in names]
    assert len(set(cut)) == 2 and cut == [fitting(name, "_sheet.png") for name in names]
    assert all(250 < len(name.encode()) <= 255 and name.endswith("_sheet.png") for name in cut)
