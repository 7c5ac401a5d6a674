"""Cleaning of prompts and the store of their rows."""

import logging
import os

import pytest
import torch

from gf_core.text.clean import clean_prompt
from gf_core.text.store import EmbeddingStore, StoredEncoder


@pytest.mark.parametrize(
    "raw, clean",
    [
        ("  a   red\tfox\n walks ", "a red fox walks"),
        ("fox &amp;amp; owl", "fox & owl"),
        # Beside a `<`, which may begin markup, the repair leaves entities alone: undone twice by us, as Wan does.
        ("a fox < an owl &amp; a hen", "a fox < an owl & a hen"),
        ("a fox < an owl &amp;amp; a hen", "a fox < an owl & a hen"),
        ("1 &amp;lt; 2 <", "1 < 2 <"),
        ("\u201ccurly\u201d and it\u2019s", '"curly" and it\'s'),
        ("schÃ¶n", "schön"),
        ("\u3000wide\u00a0space\u3000", "wide space"),
        ("", ""),
    ],
)
def test_cleaning(raw, clean):
    assert clean_prompt(raw) == clean
    assert clean_prompt(clean) == clean


def test_entities_are_undone_twice_where_nothing_repairs(monkeypatch):
    monkeypatch.setattr("gf_core.text.clean._repair", lambda: str)  # a host without ftfy
    assert clean_prompt(" fox &amp;amp;\n owl &quot;up&quot; ") == 'fox & owl "up"'
    assert clean_prompt("&amp;amp;amp;") == "&amp;", "twice, and no more"


class Counting:
    """An encoder that counts what it is asked."""

    weight_bytes = 12

    def __init__(self, fingerprint="one"):
        self.fingerprint, self.asked = fingerprint, []

    def encode(self, prompts):
        self.asked.append(list(prompts))
        return [torch.full((len(p) + 1, 3), float(len(p))) for p in prompts]


def test_only_new_prompts_reach_the_encoder(tmp_path):
    inner, store = Counting(), EmbeddingStore(tmp_path)
    rows = StoredEncoder(inner, store).encode(["fox", "owl  up", "fox", " owl up "])
    assert inner.asked == [["fox", "owl up"]]
    assert [len(r) for r in rows] == [4, 7, 4, 7] and torch.equal(rows[1], rows[3])
    again = Counting()
    for mine, other in zip(rows, StoredEncoder(again, store).encode(["fox", "owl up", "fox", "owl up"])):
        assert torch.equal(mine, other)
    assert again.asked == []
    other = Counting("two")
    StoredEncoder(other, store).encode(["fox"])
    assert other.asked == [["fox"]]


def test_what_has_to_be_read_is_told(tmp_path):
    inner, store = Counting(), EmbeddingStore(tmp_path)
    encoder = StoredEncoder(inner, store)
    assert encoder.bytes_to_read(["fox"]) == Counting.weight_bytes and encoder.bytes_to_read([]) == 0
    encoder.encode(["fox"])
    for again in (encoder, StoredEncoder(inner, store)):
        assert again.bytes_to_read([" fox"]) == 0
        assert again.bytes_to_read(["fox", "owl"]) == Counting.weight_bytes


def test_a_disk_that_refuses_costs_no_second_reading(tmp_path):
    (tmp_path / "file").write_text("no folder")
    inner = Counting()
    encoder = StoredEncoder(inner, EmbeddingStore(tmp_path / "file"))
    first, second = encoder.encode(["fox"]), encoder.encode(["fox"])
    assert inner.asked == [["fox"]] and torch.equal(first[0], second[0])


PIPE = pytest.param(
    None, marks=pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes among files")
)


@pytest.mark.parametrize("content", [b"", b"rubbish that is no safetensors file", PIPE])
def test_damaged_entries_are_dropped_with_one_line(tmp_path, caplog, content):
    store = EmbeddingStore(tmp_path)
    key = store.key("f", "fox")
    store.put(key, torch.ones(2, 3))
    path = next(tmp_path.glob("*.safetensors"))
    if content is None:
        path.unlink()
        os.mkfifo(path)
    else:
        path.write_bytes(content)
    with caplog.at_level(logging.WARNING, "grounded"):
        assert store.get(key) is None
    assert len(caplog.records) == 1 and not path.exists()
    store.put(key, torch.ones(2, 3))
    assert torch.equal(store.get(key), torch.ones(2, 3))


def test_no_draft_is_left_behind(tmp_path):
    store = EmbeddingStore(tmp_path)
    store.put("k", torch.ones(1, 1))
    assert [p.name for p in tmp_path.iterdir()] == ["k.safetensors"]


def test_the_folder_is_bounded_and_keeps_what_was_used_last(tmp_path):
    store = EmbeddingStore(tmp_path, max_bytes=3000)
    for n in range(3):
        store.put(f"k{n}", torch.ones(20, 10))
        os.utime(tmp_path / f"k{n}.safetensors", (1000 + n, 1000 + n))
    assert store.get("k0") is not None
    store.put("k3", torch.ones(20, 10))
    left = {p.stem for p in tmp_path.iterdir()}
    assert left == {"k0", "k2", "k3"}


def test_a_folder_that_cannot_be_written_costs_one_line(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    store = EmbeddingStore(tmp_path / "file")
    with caplog.at_level(logging.WARNING, "grounded"):
        store.put("k", torch.ones(1, 1))
    assert len(caplog.records) == 1
