"""Numbers as people read them, and foreign words as a terminal can show them."""

from __future__ import annotations

from fractions import Fraction

import pytest

from gf_core.errors import GroundedError
from gf_core.words import (
    amount,
    clock,
    counted,
    exact_rate,
    exact_size,
    part_of,
    plain,
    rate,
    read_rate,
    size,
    span,
)


def test_sizes():
    assert [size(n) for n in (0, 34.6e6, 999_400_000, 2.84e9)] == ["1 MB", "35 MB", "999 MB", "2.8 GB"]
    assert [exact_size(n) for n in (11, 2.838e9, 5_000_000)] == ["11 bytes", "2.84 GB", "5 MB"]
    assert [amount(n) for n in (1.419e9, 815_300_000)] == ["1.42 B", "815 M"]


def test_counts():
    assert [counted(n, "frame") for n in (0, 1, 2)] == ["0 frames", "1 frame", "2 frames"]
    told = [part_of(*one, "block") for one in ((0, 6), (1, 6), (3, 6), (0, 1), (1, 1))]
    assert told == [
        "0 of 6 blocks are",
        "1 of 6 blocks is",
        "3 of 6 blocks are",
        "0 of 1 block is",
        "1 of 1 block is",
    ]
    assert part_of(1, 6, "block", "waits", "wait") == "1 of 6 blocks waits"


def test_span():
    times = [span(seconds) for seconds in (0, 7.4, 59.4, 59.6, 90, 3600, 5400, 86_400)]
    assert times == ["1 s", "7 s", "59 s", "1.0 min", "1.5 min", "60.0 min", "1.5 h", "24.0 h"]


def test_clock():
    assert [clock(s) for s in (0, 59.6, 3599, 3723)] == ["0:00", "1:00", "59:59", "1:02:03"]
    times = [clock(s, tenths=True) for s in (0, 7.5, 7.96, 59.99, 61, 3661)]
    assert times == ["0:00", "0:07.5", "0:08", "1:00", "1:01", "1:01:01"]


@pytest.mark.parametrize(
    "bad", ["\x1b", "\x07", "\x00", "\n", "\r", "\x9b", "\u202e", "\u2066", "\u200f", "\u2028", "\ud800"]
)
def test_nothing_that_steers_a_terminal_is_shown(bad):
    shown = plain(f"a{bad}b")
    assert bad not in shown and shown.startswith("a\\") and shown.endswith("b") and shown.isprintable()
    error = GroundedError(f"{bad} is there", f"no {bad}")
    assert bad == "\n" or (bad not in str(error) and bad not in error.message and bad not in error.fix)


def test_what_is_only_foreign_stays():
    assert plain("狐狸 fähre 👩‍🚀 می‌خواهم") == "狐狸 fähre 👩‍🚀 می‌خواهم"
    assert plain("x" * 500, 20) == "x" * 20 + "..."


def test_rates_are_read_exactly_and_written_so_that_they_read_back():
    broadcast = {"23.976": 24, "23.98": 24, "29.970": 30, "59.94": 60, "119.88": 120, "24000/1001": 24}
    plain = {
        "24.0": 24,
        "12.5": Fraction(25, 2),
        "193/16": Fraction(193, 16),
        "9.99": Fraction(999, 100),
        "48/2": 24,
    }
    read = {text: Fraction(fps * 1000, 1001) for text, fps in broadcast.items()} | plain
    for text, exact in read.items():
        fps = read_rate(text)
        assert exact_rate(fps) == exact and read_rate(rate(fps)) == fps, text
        assert isinstance(fps, int) == (exact.denominator == 1), text
    assert [rate(fps) for fps in (24, 12.5, 24000 / 1001)] == ["24", "12.5", "24000/1001"]
    for text in ("", "0", "24/0", "1/1002", "23.97654", "-3", "nan", "1e2", "２４", "24 fps", "9" * 50):
        with pytest.raises(ValueError):
            read_rate(text)
