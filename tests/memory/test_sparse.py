"""Sparse attention: dense where nothing is left out, and right about what matters where much is."""

from __future__ import annotations

import pytest
import torch

from gf_core.attention import Where, sdpa
from gf_core.attention.sparse import Sparse

GRID = (4, 6)
SIZE = GRID[0] * GRID[1]


def tensors(past, own=2, batch=2, heads=3, width=8, seed=0):
    rng = torch.Generator().manual_seed(seed)
    q, k, v = (
        torch.randn(batch, frames * SIZE, heads, width, generator=rng)
        for frames in (own, past + own, past + own)
    )
    return (
        q,
        k,
        v,
        Where(0, (("anchors", min(past, 1)), ("recent", max(0, past - 1)), ("current", own)), GRID),
    )


@pytest.mark.parametrize("past", [0, 1, 5, 12])
def test_with_nothing_left_out_it_is_the_dense_kernel(past):
    q, k, v, where = tensors(past)
    assert torch.equal(Sparse(sdpa, 0.0)(q, k, v, where=where), sdpa(q, k, v))
    assert torch.equal(Sparse(sdpa, 0.9)(q, k, v), sdpa(q, k, v)), "text is seen whole"


@pytest.mark.parametrize("past", [5, 12])
def test_what_is_gathered_is_what_dense_attention_sees(past, monkeypatch):
    """The path that gathers blocks, made to gather all of them, in an order of its own."""
    q, k, v, where = tensors(past)
    blocks = k.shape[1] // SIZE
    order = torch.randperm(blocks, generator=torch.Generator().manual_seed(1))
    every = order.expand(len(q), q.shape[1] // SIZE, q.shape[2], -1)
    monkeypatch.setattr(Sparse, "_choose", lambda *_: every)
    assert torch.allclose(Sparse(sdpa, 0.5)(q, k, v, where=where), sdpa(q, k, v), atol=1e-6)


def test_the_frames_that_matter_are_found():
    q, k, v, where = tensors(12)
    q, k = q * 0.1, k * 0.1
    q[..., 0] = 6.0
    k[:, 4 * SIZE : 5 * SIZE, :, 0] = 6.0  # frame 4 draws all attention
    dense, near = sdpa(q, k, v), Sparse(sdpa, 0.7, frames=1)(q, k, v, where=where)
    assert (near - dense).abs().max() < 1e-3
    k[:, 4 * SIZE : 5 * SIZE, :, 0] = -6.0
    assert (Sparse(sdpa, 0.7, frames=1)(q, k, v, where=where) - sdpa(q, k, v)).abs().max() > 0.05, (
        "much is left out"
    )


@pytest.mark.parametrize("left_out", [0.3, 0.9, 1.0])
def test_ends_and_own_frames_always_take_part(left_out):
    q, k, _, _ = tensors(12)
    chosen = Sparse(sdpa, left_out, frames=0)._choose(q, k, 12, SIZE, SIZE)
    seen = {frame for row in chosen.flatten(0, 2).tolist() for frame in row}
    assert seen <= {0, 11, 12, 13}
    assert chosen.shape[-1] >= 3
