"""The ledger is what the memory holds: on random verbs, and as training and the estimate ask it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gf_core.config import MemorySpec
from gf_core.memory.ledger import Frame, Ledger, Move
from gf_core.memory.presets import PRESETS
from gf_core.memory.regions import SCHEMES, Layout, full_layout, positions

from .conftest import LATENT, Film


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["grounded", "paper", "self_forcing", "infinity_rope", "one anchor", "every chunk"]),
    st.lists(st.sampled_from(["chunk", "then", "cut", "scene", "short"]), min_size=4, max_size=30),
    st.integers(0, 10**6),
)
def test_the_ledger_tells_what_lies_in_the_memory(name, verbs, seed):
    own = {
        "paper": MemorySpec(anchor_policy="paper", anchor_update="every_chunk"),
        "one anchor": MemorySpec(anchors=1, recent=4),
        "every chunk": MemorySpec(anchors=2, recent=3, anchor_update="every_chunk"),
    }
    spec = own.get(name) or PRESETS[name]
    film = Film(spec)
    memory = film.memory
    rng = torch.Generator().manual_seed(seed)
    for verb in verbs:
        if verb == "then":
            memory.ledger.then()
        elif verb == "cut":
            memory.cut()
        elif verb == "scene":
            memory.clear()
        frames = 1 if verb == "short" else spec.chunk
        film.chunk(frames, torch.randn(1, frames, *LATENT, generator=rng))
        assert film.stored() == memory.ledger.numbers()
        assert len(set(film.stored())) == memory.layout.past, "no frame is in both memories"
        assert memory.layout.anchors <= spec.capacity and memory.layout.recent <= spec.recent + spec.chunk
        taken = [entry.frame for entry in memory.log if entry.replaced]
        assert set(taken) <= set(range(memory.ledger.frame))


def test_moves_are_told_in_the_order_in_which_they_are_to_be_made():
    ledger = Ledger(MemorySpec(anchors=2, recent=3))
    ledger.commit(3)
    ledger.then()
    ledger.commit(3)
    ledger.commit(3)
    moves = list(ledger.make_room(3, lambda sample, source: 1 if ledger.recent[source].prompt else None))
    assert moves == [Move("promote", 2), Move("replace", source=1, target=1), Move("drop", 4)]
    assert ledger.anchors == [[Frame(0, 0), Frame(3, 1)]] and ledger.numbers()[2:] == [6, 7, 8]
    assert not list(ledger.make_room(3)), "what fits stays"


def test_a_position_scheme_is_a_row():
    """SGF: the numbers of the film until the trained range is full, then sink and window at its two ends."""
    spec = PRESETS["sgf"]
    assert spec.positions in SCHEMES
    early = positions(spec, Layout(3, 0, 3), range(6))
    assert early == tuple(range(6))
    middle = positions(spec, full_layout(spec), [0, 1, 2, *range(9, 18)])
    assert middle == (0, 1, 2, *range(9, 18))
    late = positions(spec, full_layout(spec), [0, 1, 2, *range(600, 609)])
    assert late == (0, 1, 2, *range(12, 21))
    zero = positions(replace(spec, anchor_index="zero"), full_layout(spec), [0, 1, 2, *range(600, 609)])
    assert zero == (0, 0, 0, *range(12, 21))


@pytest.mark.parametrize("name", PRESETS)
def test_no_preset_leaves_the_trained_range(name):
    """Nor has two frames at one place behind its anchors, which a window of more frames than places would."""
    spec, layout = PRESETS[name], full_layout(PRESETS[name])
    for first in (0, 600):
        found = positions(spec, layout, range(first, first + layout.total))
        assert spec.max_position is None or max(found) <= spec.max_position
        anchors, others = set(found[: layout.anchors]), found[layout.anchors :]
        assert sorted(set(others) - anchors) == list(others)


def test_a_bank_takes_no_chunk_that_begins_in_front_of_its_place():
    ledger, compared = Ledger(replace(PRESETS["context_forcing"], bank_from=6, bank_every=1)), []
    for scene in (False, True):
        if scene:
            ledger.scene()
        for _ in range(4):
            ledger.commit(3)
            compared.append(ledger.compares(3))
    assert compared == [False, False, True, True] * 2
