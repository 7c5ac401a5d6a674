"""Pictures given to a memory: where they lie, what moves for them, and that no frame of the film takes their place."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gf_core.config import MemorySpec
from gf_core.memory.given import give
from gf_core.memory.policies import measure
from gf_core.memory.presets import PRESETS
from gf_core.memory.recache import recache_all
from gf_core.memory.snapshots import restore, snapshot

from .conftest import LATENT, MODEL

FROZEN = MemorySpec(anchor_policy="frozen", anchor_update="never")
PICTURE = 900
"""What pictures hold from here on, where frames hold their number."""


def lay(run, number):
    """Give picture `number` and let a clean pass write it."""
    memory, tokens = run.memory, run.memory.tokens_per_frame
    view = give(memory, torch.full((memory.batch, 1, *LATENT), float(number + 1)))
    for layer in range(MODEL.num_layers):
        value = torch.full((memory.batch, tokens, 2, 6), float(number + 1))
        view.write(layer, value, value)
    return view


@pytest.mark.parametrize(
    ("chunks", "before", "after"),
    [
        (0, [], [900]),
        (1, [0, 1, 2], [900, 0, 1, 2]),
        (3, list(range(9)), [900, *range(9)]),
        (4, list(range(12)), [900, 1, 2, *range(3, 12)]),
    ],
    ids=["at the beginning", "no anchors yet", "before room was made", "all anchors there"],
)
def test_a_picture_lies_in_front_and_the_others_move_up(film, chunks, before, after):
    run = film(FROZEN)
    run.chunks(chunks)
    assert run.stored() == before
    lay(run, PICTURE)
    assert run.stored() == after and run.memory.layout.total == len(after)
    run.chunk()
    assert run.stored()[0] == PICTURE and run.stored()[-3:] == [3 * chunks, 3 * chunks + 1, 3 * chunks + 2]


def test_one_after_another_each_sees_those_before_it(film):
    run = film(FROZEN)
    run.chunk()
    seen = [lay(run, PICTURE + n).places[0].parts for n in range(3)]
    size = run.memory.tokens_per_frame
    assert [part[-1][1] for part in seen] == [size, 2 * size, 3 * size]
    assert run.stored() == [900, 901, 902, 0, 1, 2]
    lay(run, PICTURE + 3)
    assert run.stored() == [903, 901, 902, 0, 1, 2], "the oldest of too many leaves"
    run.memory.clear()
    lay(run, PICTURE)
    assert run.stored() == [900]


def test_what_stands_between_anchors_and_recent_frames_moves_up_too(film):
    run = film(replace(PRESETS["context_forcing"], anchors=9, recent=3, bank=3, bank_below=2.0, bank_from=0))
    run.chunks(3)
    before = run.stored()
    assert run.memory.layout.bank
    lay(run, PICTURE)
    assert run.stored() == [900, *before]


@pytest.mark.parametrize("pictures", [1, 3])
@pytest.mark.parametrize("update", ["on_switch", "every_chunk"])
def test_no_frame_takes_a_pictures_place(film, update, pictures):
    run = film(replace(FROZEN, anchor_policy="diversity", anchor_update=update))
    for number in range(pictures):
        lay(run, PICTURE + number)
    # Other latents than before in every chunk: each is more diverse than what is there.
    for number in range(6):
        run.memory.ledger.then()
        latents = torch.zeros(1, 3, *LATENT)
        latents.view(1, 3, -1)[:, :, number] = 1
        run.chunk(latents=latents)
    assert any(entry.replaced for entry in run.memory.log) is (pictures < 3)
    assert all(entry.slot >= pictures for entry in run.memory.log)
    assert run.stored()[:pictures] == [PICTURE + number for number in range(pictures)]


def test_a_picture_is_no_target_however_redundant():
    same, other = torch.ones(4), torch.tensor([1.0, -1, 1, -1])
    anchors = torch.stack([same, same, other])
    assert measure(anchors, -other)[2] == 0 and measure(anchors, -other, 1)[2] == 1


def test_a_snapshot_knows_which_anchors_are_pictures(film):
    run, twin = film(FROZEN), film(FROZEN)
    run.chunk()
    assert "pictures" not in snapshot(run.memory)
    lay(run, PICTURE)
    restore(twin.memory, snapshot(run.memory))
    assert twin.memory.ledger.pictures == 1 and twin.stored() == run.stored()


@pytest.mark.parametrize("pictures", [1, 2, 3])
def test_an_early_switch_asks_for_the_frames_that_were_made(film, pictures):
    """As many frames as there are anchors take part in LongLive's recache, but pictures were never among them."""
    run, asked = film(PRESETS["longlive"]), []
    for number in range(pictures):
        lay(run, PICTURE + number)
    run.chunk()
    recache_all(run.memory, lambda latents, view: asked.append(latents[0, :, 0, 0, 0].tolist()))
    assert asked == [[1, 2, 3]]
