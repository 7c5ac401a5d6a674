"""The journal: what a kill or a bad disk can do to it, and what is promised afterwards."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gf_core.engine.journal import Journal, decode_record, encode_record, read_journal
from gf_core.errors import TakeError

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
