"""Numbers as people read them."""

from __future__ import annotations

from gf_core.words import amount, clock, exact_size, size


def test_sizes():
    assert [size(n) for n in (0, 34.6e6, 999_400_000, 2.84e9)] == ["1 MB", "35 MB", "999 MB", "2.8 GB"]
    assert [exact_size(n) for n in (11, 2.838e9, 5_000_000)] == ["11 bytes", "2.84 GB", "5 MB"]
    assert [amount(n) for n in (1.419e9, 815_300_000)] == ["1.42 B", "815 M"]


def test_clock():
    assert [clock(s) for s in (0, 59.6, 3599, 3723)] == ["0:00", "1:00", "59:59", "1:02:03"]
    times = [clock(s, tenths=True) for s in (0, 7.5, 7.96, 59.99, 61, 3661)]
    assert times == ["0:00", "0:07.5", "0:08", "1:00", "1:01", "1:01:01"]
