"""What gradients see of a past: the chunk as it was made last, whoever began it before."""

import torch

from gf_core.config import MemorySpec

SPEC = MemorySpec(anchors=1, recent=3)


def tokens(value, **options):
    """Raw keys or values [b s h d] of a chunk."""
    return torch.full((1, 6, 2, 6), value, **options)


def test_a_chunk_that_is_begun_again_takes_the_place_of_the_first_try(film):
    """A film that was stopped inside a chunk and goes on: every frame has one pair of keys and values a layer."""
    run = film(SPEC)
    run.chunk()
    memory = run.memory
    memory.evict(3)
    for value in (1.0, 2.0):
        _, clean = memory.open_grad(3)
        for layer in range(2):
            clean.write(layer, tokens(value), tokens(-value))
    memory.commit(torch.zeros(1, 3, 2, 2, 4))
    step, _ = memory.open_grad(3)
    newest = [memory.gradients.past(layer, step.places[layer])[-3:] for layer in range(2)]
    assert all((k == 2).all() and (v == -2).all() for made in newest for k, v in made)
    assert [list(made) for made in memory.gradients.graph] == [[0, 1, 2, 3, 4, 5]] * 2


def test_gradients_leak_to_the_try_that_was_kept(film):
    memory, tries = film(SPEC).memory, [tokens(value, requires_grad=True) for value in (1.0, 2.0)]
    for made in tries:
        step, clean = memory.open_grad(3, leaky=True)
        for layer in range(2):
            step.write(layer, made * 1, made * 1)
    for layer in range(2):
        clean.write(layer, tokens(3.0), tokens(3.0))
    memory.commit(torch.zeros(1, 3, 2, 2, 4))
    step, _ = memory.open_grad(3)
    k, v = memory.gradients.past(1, step.places[1])[-1]
    assert (k == 3).all() and (v == 3).all(), "values are those of the clean pass"
    (k.sum() + v.sum()).backward()
    assert tries[0].grad is None and tries[1].grad is not None and tries[1].grad.any()
