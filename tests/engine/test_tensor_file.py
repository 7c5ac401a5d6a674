"""Tensors written in pieces: read back by safetensors itself, and nothing left of a file that was stopped."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open

from gf_core.files import pieces
from gf_core.files.pieces import digest, write_tensors
from gf_core.files.safetensors_file import SAFETENSORS_DTYPES
from gf_core.take.states import StateStore

STATE = {
    **{name: torch.arange(24).reshape(2, 3, 4).to(dtype) for name, dtype in SAFETENSORS_DTYPES.items()},
    "turned": torch.arange(6.0).reshape(2, 3).T,
    "one": torch.tensor(3.5),
    "none": torch.zeros(0, 4),
}


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(pieces, "PIECE", 16)


def test_what_is_written_is_read_by_safetensors(tmp_path):
    path = tmp_path / "state.safetensors"
    write_tensors(path, STATE, {"digest": "abc"}, lambda: None)
    with safe_open(str(path), "pt") as file:
        assert file.metadata() == {"digest": "abc"}
        back = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert back.keys() == STATE.keys()
    assert all(
        torch.equal(back[name].float(), value.float()) and back[name].dtype == value.dtype
        for name, value in STATE.items()
    )
    assert digest(back) == digest(STATE)


class Stopped(Exception):
    pass


@pytest.mark.parametrize("at", [1, 30, -1])
def test_a_state_that_is_stopped_leaves_nothing(tmp_path, at):
    def check():
        asked.append(None)
        if len(asked) == stop:
            raise Stopped

    asked, stop = [], 0
    store = StateStore(tmp_path / "states", ())
    whole, half = ("a" * 24 + ".memory", "b" * 24 + ".memory")
    assert store.save(whole, 1, STATE, check) == digest(STATE)
    stop = at % len(asked)
    asked.clear()
    with pytest.raises(Stopped):
        store.save(half, 2, STATE, check)
    assert store.names() == {whole} and len(list((tmp_path / "states").iterdir())) == 1
    assert digest(store.load(whole) or {}) == digest(STATE)
