"""Decoding in tiles: shares that come to one, states per tile, and pictures that are those of decoding whole."""

from __future__ import annotations

import itertools

import pytest
import torch

from gf_core.builtin import BUILTIN_FOLDER
from gf_core.errors import GroundedError
from gf_core.vae.builtin import load_codec
from gf_core.vae.decoders import OVERLAP, spans
from gf_core.vae.taehv import TAEHV
from gf_core.vae.tiles import Tiled, shares, whole


@pytest.fixture(scope="module")
def codec():
    return load_codec(BUILTIN_FOLDER / "codec.safetensors")


@pytest.fixture(scope="module")
def latents(codec):
    """Of five pictures with slopes and edges that move, 192x128."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 128), torch.linspace(0, 1, 192), indexing="ij")
    pictures = [torch.stack([x, y, ((x + 0.02 * n) * 6 % 1 > 0.5).float()], -1) for n in range(5)]
    with torch.no_grad():
        return codec.encode(torch.stack(pictures))


@pytest.fixture(scope="module")
def tiny():
    """A small random decoder with a state."""
    torch.manual_seed(0)
    return TAEHV(widths=(8, 8, 8, 8), encoder_width=8, fingerprint="tiny").eval().requires_grad_(False)


@pytest.fixture(scope="module")
def some():
    """Its latents, of 192x128."""
    return torch.randn(2, 16, 16, 24, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("length", "tile"), [(16, 16), (17, 16), (26, 16), (60, 40), (104, 40), (60, 32), (12, 40)]
)
def test_tiles_cover_all_and_their_shares_are_one(length, tile):
    places = spans(length, tile)
    assert places[0][0] == 0 and places[-1][1] == length
    overlaps = [left[1] - right[0] for left, right in itertools.pairwise(places)]
    assert min(overlaps, default=OVERLAP) >= OVERLAP and len(set(overlaps)) <= 2, "evenly laid"
    assert max(overlaps, default=0) - min(overlaps, default=0) <= 1
    total = torch.zeros(length * 2)
    for (start, stop), share in zip(places, shares(places, 2)):
        assert (share > 0).all()
        total[start * 2 : stop * 2] += share
    torch.testing.assert_close(total, torch.ones(length * 2))


def test_seams_are_not_seen(codec, latents):
    """Within 1/255 on average, and nowhere more than an edge can move by."""
    stream = codec.decoder()
    expected = stream.decode(latents)
    tiled = Tiled(codec, 16).decoder().decode(latents)
    assert tiled.shape == expected.shape
    off = (tiled - expected).abs()
    assert 0 < off.max() < 0.1 and off.mean() < 1 / 255


def test_a_picture_of_one_tile_is_decoded_whole_to_the_bit(tiny, some):
    assert torch.equal(Tiled(tiny, 24).decoder().decode(some), tiny.decoder().decode(some))


def test_it_goes_on_from_a_snapshot_to_the_bit_however_it_is_split(tiny, some):
    tiled, latents = Tiled(tiny, 16), some
    at_once, split = tiled.decoder(), tiled.decoder()
    expected = at_once.decode(latents)
    first = split.decode(latents[:1])
    other = tiled.decoder()
    other.decode(latents.flip(0))  # the twin has seen another film
    other.restore(split.snapshot())
    assert torch.equal(torch.cat([first, other.decode(latents[1:])]), expected)
    other.restore({})
    assert torch.equal(other.decode(latents), expected)


def test_what_begins_anew_does_so_in_every_tile(codec, latents):
    """As in the decoder itself; and what comes behind that knows what was decoded since."""
    part = latents[:, :, :4, :4]
    plain, tiled = codec.decoder(), Tiled(codec, 16).decoder()
    for decoder in (plain, tiled):
        decoder.decode(part)
        decoder.forget()
    for _ in range(2):
        assert torch.equal(tiled.decode(part.flip(0)), plain.decode(part.flip(0)))


def test_it_encodes_as_the_codec_does_and_is_called_otherwise(codec):
    tiled = Tiled(codec, 16)
    assert tiled.fingerprint != codec.fingerprint and tiled.fingerprint != Tiled(codec, 20).fingerprint
    assert whole(tiled) is codec and whole(codec) is codec
    pictures = torch.rand(1, 16, 16, 3)
    assert torch.equal(tiled.encode(pictures), codec.encode(pictures))


def test_refusals(tiny):
    with pytest.raises(GroundedError, match="too small"):
        Tiled(tiny, 8)
    with pytest.raises(GroundedError, match="does not belong to a decoder in tiles"):
        Tiled(tiny, 16).decoder().restore({"00": torch.zeros(1)})
