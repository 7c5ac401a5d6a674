import pytest
import torch

from gf_core.sampling.noise import chunk_noise

SHAPE = (1, 3, 4, 6, 6)


def test_same_key_same_noise():
    assert torch.equal(chunk_noise(7, 2, 1, SHAPE), chunk_noise(7, 2, 1, SHAPE))


def test_every_part_of_the_key_matters():
    keys = [(7, 0, 0), (8, 0, 0), (7, 1, 0), (7, 0, 1), (70, 0, 0), (7, 10, 0), (71, 0, 0)]
    draws = [chunk_noise(*key, SHAPE) for key in keys]
    for i, a in enumerate(draws):
        assert all((a - b).abs().max() > 0.1 for b in draws[:i])


@pytest.mark.parametrize(
    ("key", "want"),
    [
        ((0, 0, 0), [-1.8388162, 0.2256754, 0.2899573, 0.2887502]),
        ((7, 2, 1), [0.2656533, 0.8940056, 0.4434229, 0.0001919]),
    ],
)
def test_noise_stays_what_it_is(key, want):
    """A Take of an older version is gone on with: its film's second half must not come from other noise."""
    assert chunk_noise(*key, (4,)).tolist() == pytest.approx(want, abs=1e-6)


def test_other_random_draws_do_not_interfere():
    torch.manual_seed(1)
    first = chunk_noise(7, 0, 0, SHAPE)
    torch.randn(100)
    state = torch.get_rng_state()
    assert torch.equal(first, chunk_noise(7, 0, 0, SHAPE))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("shape", [(1, 3, 4, 6, 8), (2, 3, 4, 7, 5), (1, 4, 16, 12, 20)])
def test_steady_noise_shares_what_is_coarse_with_the_first_chunk(shape):
    first, own = (chunk_noise(7, chunk, 0, shape) for chunk in (0, 3))
    assert torch.equal(chunk_noise(7, 0, 0, shape, 0.5), first), "the first chunk's is all its own"
    assert torch.equal(chunk_noise(7, 3, 1, shape, 0.5), chunk_noise(7, 3, 1, shape)), "and all re-noise"

    def alike(one, other):
        return torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]

    some, more = (chunk_noise(7, 3, 0, shape, steady) for steady in (0.5, 0.9))
    assert some.shape == shape and torch.equal(some, chunk_noise(7, 3, 0, shape, 0.5))
    assert alike(own, first) + 0.05 < alike(some, first) < alike(more, first)
    assert alike(some, own) > 0.5 and 0.7 < some.std() < 1.3


def test_noise_is_standard_normal():
    noise = chunk_noise(3, 0, 0, (1, 4, 16, 32, 32))
    assert noise.dtype == torch.float32 and noise.device.type == "cpu"
    assert abs(noise.mean().item()) < 0.02 and abs(noise.std().item() - 1) < 0.02
