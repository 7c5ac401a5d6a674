"""The journal: what a kill or a bad disk can do to it, and what is promised afterwards."""

from __future__ import annotations

import builtins
import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gf_core.engine.journal import Journal, decode_record, encode_record, read_journal, scan_journal
from gf_core.errors import GroundedError, TakeError

LINES = [
    {"kind": "chunk", "index": i, "key": f"k{i}", "prompt": 'a "sum":" in \n a prompt é'} for i in range(4)
]


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    for line in LINES:
        journal.append(line)
    journal.close()
    return path


def test_reads_back_what_was_written(written):
    assert read_journal(written) == LINES


def test_any_cut_through_the_last_line_drops_that_line_only(written, caplog):
    whole = written.read_bytes()
    last = len(encode_record(LINES[-1]))
    for cut in range(1, last):
        written.write_bytes(whole[:-cut])
        assert read_journal(written) == LINES[:-1], cut
    assert "cut short" in caplog.text


def test_every_changed_byte_is_noticed(written):
    line = encode_record(LINES[0])
    for place in range(len(line)):
        changed = bytes([*line[:place], line[place] ^ 1, *line[place + 1 :]])
        assert decode_record(changed) is None, place


def test_damage_before_the_last_line_is_an_error_that_names_the_line(written):
    data = bytearray(written.read_bytes())
    data[len(encode_record(LINES[0])) + 5] ^= 1
    written.write_bytes(data)
    with pytest.raises(TakeError, match="line 2 of the journal"):
        read_journal(written)


def test_an_existing_journal_is_never_overwritten(written):
    with pytest.raises(TakeError):
        Journal(written)
    assert read_journal(written) == LINES


def full_disk(monkeypatch, moment, after):
    """Let the journal's write number `after` fail: it stops short, or its bytes do not reach the disk. Once."""
    real, sync, count = builtins.open, os.fsync, [0]

    def once() -> bool:
        count[0] += 1
        return count[0] == after

    def opened(path, mode="r", *given, **named):
        file = real(path, mode, *given, **named)
        if "b" in mode and ("x" in mode or "+" in mode):
            write = file.write
            file.write = lambda data: write(data[: len(data) // 2] if once() else data)
        return file

    def failing(handle):
        if once():
            raise OSError(errno.EIO if moment == "sync, a bad disk" else errno.ENOSPC, "no")
        sync(handle)

    if moment == "write":
        monkeypatch.setattr(builtins, "open", opened)
    else:
        monkeypatch.setattr(os, "fsync", failing)


@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize("moment", ["write", "sync", "sync, a bad disk"])
def test_a_line_that_could_not_be_written_leaves_nothing_behind(tmp_path, monkeypatch, moment, resumed):
    """A shorter line may come next; the rest of the longer one behind it would damage the journal in the middle."""
    path, kept, short = tmp_path / "j", {"kind": "chunk", "index": 0}, {"kind": "end"}
    if resumed:
        before = Journal(path)
        before.append(kept)
        before.close()
    with monkeypatch.context() as patch:
        full_disk(patch, moment, after=1 if resumed else 2)
        journal = Journal(path, keep=scan_journal(path).size if resumed else None)
        if not resumed:
            journal.append(kept)
        with pytest.raises(GroundedError):
            journal.append(
                {"kind": "chunk", "index": 1, "text": "x" * 500}, {"kind": "state", "name": "y" * 90}
            )
        assert path.read_bytes() == encode_record(kept)
        journal.append(short)
    journal.close()
    scan = scan_journal(path)
    assert (scan.records, scan.bad_line) == ([kept, short], None)
    assert path.read_bytes() == encode_record(kept) + encode_record(short)


def test_what_is_appended_is_on_the_disk_when_the_call_is_over(tmp_path, monkeypatch):
    sizes, real = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (real(handle), sizes.append(os.fstat(handle).st_size))[0])
    journal = Journal(tmp_path / "j")
    for line in LINES:
        journal.append(line)
        assert sizes[-1] == (tmp_path / "j").stat().st_size
    assert len(sizes) == len(LINES)


def test_values_without_an_exact_form_are_refused(tmp_path):
    journal = Journal(tmp_path / "j")
    for bad in ({"x": float("nan")}, {"x": {1, 2}}, {"sum": "mine"}):
        with pytest.raises(TakeError):
            journal.append(bad)
    journal.append({"kind": "end"})
    assert read_journal(tmp_path / "j") == [{"kind": "end"}]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(min_size=1).filter(lambda k: k != "sum"), JSON, min_size=1, max_size=4))
def test_encode_and_decode_are_inverse(record):
    assert decode_record(encode_record(record)) == record
