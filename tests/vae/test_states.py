"""What a decoder goes on from, whichever it is: the same bits, a copy, and no more of it with the film's length."""

import pytest
import torch

from .kinds import builtin, taehv, wan


@pytest.fixture(scope="module", params=[builtin, taehv, wan], ids=lambda make: make.__name__)
def codec(request):
    return request.param()


@pytest.mark.parametrize("at", [0, 1, 3])
def test_it_goes_on_bit_for_bit(codec, at):
    latents = torch.randn(4, 16, 2, 3)
    whole, decoder = codec.decoder().decode(latents), codec.decoder()
    head = decoder.decode(latents[:at])
    state = {name: value.clone() for name, value in decoder.snapshot().items()}
    assert bool(state) == (at > 0)
    decoder.decode(torch.randn(2, 16, 2, 3))
    for again in (decoder, codec.decoder()):
        again.restore(state)
        assert torch.equal(torch.cat([head, again.decode(latents[at:])]), whole)


@pytest.mark.parametrize("frames", [0, 2])
def test_a_snapshot_is_not_written_to_later(codec, frames):
    """The engine copies it at once; a host that keeps it for a while must find what it was given."""
    decoder, other = codec.decoder(), codec.decoder()
    decoder.decode(torch.randn(frames, 16, 2, 3))
    state = decoder.snapshot()
    before = {name: value.clone() for name, value in state.items()}
    decoder.decode(torch.randn(2, 16, 2, 3))
    other.restore(state)
    other.decode(torch.randn(1, 16, 2, 3))
    assert state.keys() == before.keys() and all(torch.equal(state[name], before[name]) for name in before)


def test_a_state_stops_growing(codec):
    decoder, sizes = codec.decoder(), []
    for _ in range(4):
        decoder.decode(torch.randn(1, 16, 2, 2))
        sizes.append(sum(value.numel() for value in decoder.snapshot().values()))
    assert sizes[1] == sizes[2] == sizes[3]
