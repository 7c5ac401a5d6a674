"""Other people's files: JSON, settings and numbered layers, each failure a ValueError in words."""

from __future__ import annotations

import pytest

from gf_core.config import MemorySpec, SampleSpec, VideoSpec
from gf_core.foreign import numbered, read_json, with_values


@pytest.mark.parametrize(
    "text",
    ["", "{", "[" * 200_000, b"\xff\xfe", '{"a": 1, "a": 2}', '{"x": {"a": 1, "a": 2}}', '{"a":' * 50_000],
)
def test_whatever_is_wrong_with_json_is_a_value_error(text):
    with pytest.raises(ValueError):
        read_json(text)


def test_json_reads():
    assert read_json(b'{"a": [1, {"b": null}]}') == {"a": [1, {"b": None}]}


def test_values_replace_what_they_name():
    sample = with_values(SampleSpec(), {"steps": [1000, 500.5], "shift": 3, "first_chunk_frames": None})
    assert sample == SampleSpec(steps=(1000, 500.5), shift=3, first_chunk_frames=None)
    assert with_values(MemorySpec(), {"positions": "absolute"}).positions == "absolute"


@pytest.mark.parametrize(
    ("base", "values", "said"),
    [
        (SampleSpec(), {"stepps": [1]}, "unknown stepps"),
        (SampleSpec(), [1], "list where names"),
        (SampleSpec(), {"steps": "abc"}, "steps is 'abc'"),
        (SampleSpec(), {"steps": ["a"]}, "steps is"),
        (SampleSpec(), {"shift": True}, "shift is 'True'"),
        (SampleSpec(), {"shift": float("nan")}, "shift is 'nan'"),
        (SampleSpec(), {"first_chunk_frames": "1"}, "first_chunk_frames is '1'"),
        (MemorySpec(), {"anchors": "3"}, "anchors is '3'"),
        (MemorySpec(), {"anchors": 3.0}, "anchors is '3.0'"),
        (MemorySpec(), {"positions": "sideways"}, "positions is 'sideways'"),
        (VideoSpec(), {"fps": None}, "fps is 'None'"),
    ],
)
def test_values_of_another_type_are_named(base, values, said):
    with pytest.raises(ValueError, match=said):
        with_values(base, values)


def test_layers_are_counted_without_trusting_their_numbers():
    assert numbered(["blocks.0.a", "blocks.1.a", "blocks.1.b", "blocks.x.a", "head"], "blocks.") == 2
    assert numbered(["head"], "blocks.") == 0
    for names in (["blocks.0", "blocks.999999999.a"], ["blocks.1.a"], ["blocks.0", "blocks.2"]):
        with pytest.raises(ValueError, match=r"layer \d of \d+ is missing"):
            numbered(names, "blocks.")
    assert numbered(["blocks.0", "blocks.²", "blocks.", "blocks." + "9" * 5000], "blocks.") == 1
