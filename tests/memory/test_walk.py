"""Rolling Sink: which of the first frames a call sees, as its published code has it; nothing else of the past stays."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from gf_core.errors import GroundedError
from gf_core.memory.checks import check, check_pictures
from gf_core.memory.ledger import Ledger
from gf_core.memory.presets import PRESETS

SINK = PRESETS["rolling_sink"]


def published(chunks: int, window: int, block: int = 3) -> list[list[int]]:
    """Frames that the denoising steps of every chunk see before their own, by the arithmetic of the published cache.

    A buffer of `window` frames drops its oldest chunk for the new one; after a clean pass the chunk before takes on a
    piece of the first frames.
    """
    cache, seen = [], []
    for start in range(0, chunks * block, block):
        cache = cache[max(0, len(cache) + block - window) :]
        seen.append(list(cache))
        cache += range(start, start + block)
        if start >= window:
            place, reach = start - block, window - block
            if (place // reach) % 2 == 1:
                right = reach - place % reach
                piece = list(range(right - block, right))[::-1]
            else:
                piece = list(range(place % reach, place % reach + block))
            cache[-2 * block : -block] = piece
    return seen


def seen(run) -> list[int]:
    """Frame numbers that lie in the keys that a call of the next chunk sees before its own."""
    memory, size = run.memory, run.memory.tokens_per_frame
    memory.evict(memory.spec.recent)
    place = memory.open(3)[0].places[0]
    slots = [token // size for start, stop in place.parts for token in range(start, stop, size)]
    held = run.stored()
    return [held[slot] for slot in slots if slot < memory.layout.past]


@pytest.mark.parametrize("window", [21, 12])
def test_a_call_sees_the_frames_of_the_published_cache(film, window):
    run = film(replace(SINK, anchors=window - 3, recent=window - 3))
    for wanted in published(40, window):
        assert seen(run) == wanted
        run.chunk()


def test_a_shot_walks_over_frames_of_its_own_behind_the_first_chunk(film):
    run = film(SINK)
    run.chunks(9)
    run.memory.cut()
    for wanted in published(12, 21):  # the first three stay, then come those from the cut on
        if wanted:
            assert seen(run) == [frame if frame < 3 else frame + 24 for frame in wanted]
            run.chunk()
    run.memory.clear()
    run.chunk()
    assert seen(run) == [60, 61, 62]


@pytest.mark.parametrize(
    "wrong",
    [
        {"anchor_policy": "diversity"},
        {"anchors": 0},
        {"switch": "apr"},
        {"rolling": 21},
        {"cut_position": 45},
    ],
)
def test_what_cannot_walk_is_said(wrong):
    check(SINK)
    with pytest.raises(GroundedError, match="walk") as told:
        check(replace(SINK, **wrong))
    assert told.value.fix
    with pytest.raises(GroundedError, match="walks over its anchors"):
        check_pictures(SINK)


@pytest.mark.parametrize("away", [1, 2, 3, 4, 5])
def test_a_walk_that_is_gone_back_to_goes_on_where_it_was(away):
    """The film's count of frames has gone on meanwhile."""
    spec = replace(SINK, anchors=6, recent=6)

    def walk(ledger: Ledger, chunks: int) -> list[list[tuple[int, int]]]:
        walked = []
        for _ in range(chunks):
            assert all(ledger.make_room(spec.recent))  # carried out
            ledger.commit(3)
            walked.append(ledger.walked(3))
        return walked

    film = Ledger(spec)
    walk(film, 5)
    then, stayed = copy.deepcopy(film), copy.deepcopy(film)
    walk(film, away)
    then.resume(film.frame, film.prompt)
    assert then.frame == 15 + 3 * away
    assert walk(then, 4) == walk(stayed, 4)
