"""The built-in codec: geometry, causality, streaming equal to one call, files and errors."""

from __future__ import annotations

import pytest
import torch

from gf_core.errors import CheckpointError, GroundedError
from gf_core.vae.builtin import AT_ONCE, BuiltinCodec, load_codec, save_codec
from gf_core.vae.decoders import begin_apart
from gf_core.vae.tiles import Tiled

from .kinds import SMALL, builtin


@pytest.fixture
def codec() -> BuiltinCodec:
    return builtin()


@pytest.mark.parametrize(("height", "width"), [(64, 96), (16, 24), (8, 8)])
def test_geometry(codec: BuiltinCodec, height: int, width: int) -> None:
    latents = codec.encode(torch.rand(9, height, width, 3))
    assert latents.shape == (3, 16, height // 8, width // 8)
    frames = codec.decoder().decode(latents)
    assert frames.shape == (9, height, width, 3)
    assert frames.min() >= 0 and frames.max() <= 1


@pytest.mark.parametrize("split", [[5], [1, 4], [2, 3], [1, 1, 1, 1, 1], [3, 0, 2]])
def test_decoding_does_not_depend_on_the_split(codec: BuiltinCodec, split: list[int]) -> None:
    latents = torch.randn(5, 16, 3, 4)
    stream = codec.decoder()
    pieces = torch.cat([stream.decode(piece) for piece in latents.split(split)])
    assert torch.equal(pieces, codec.decoder().decode(latents))
    with torch.no_grad():
        whole = codec.decode_batch(latents[None])[0].clamp(0, 1)
    assert torch.allclose(pieces, whole, atol=1e-4)


def test_what_knows_nothing_of_the_pictures_before_is_decoded_without_them(codec: BuiltinCodec) -> None:
    before, after = torch.randn(4, 16, 3, 4), torch.randn(5, 16, 3, 4)
    stream, tiled = codec.decoder(), Tiled(codec, 64).decoder()
    for decoder in (stream, tiled):
        assert len(decoder.decode(before)) == 13
        begin_apart(decoder)
    frames = torch.cat([stream.decode(piece) for piece in after.split([1, 3, 1])])
    assert torch.equal(frames[3:], codec.decoder().decode(after)), "as a clip of its own"
    assert len(frames) == 20, "but four pictures for its first latent frame, too"
    assert torch.equal(tiled.decode(after[:1]), frames[:4]) and torch.equal(
        tiled.decode(after[1:2]), frames[4:8]
    )
    stream.forget()
    stream.restore(tiled.snapshot() and codec.decoder().snapshot())
    assert len(stream.decode(after)) == 17, "a new clip"


@pytest.mark.parametrize(("off", "calls"), [(0.0, [1, 1, 1, 3, 1]), (1e-7, [1] * 7)])
def test_a_call_decodes_several_latent_frames_where_that_keeps_bits(codec, off, calls, monkeypatch) -> None:
    """Not in a film's first call, which somebody waits for; off: what sums over more of them come out otherwise."""
    seen = list[int]()

    def decode(self, z, past):
        seen.append(z.shape[1])
        stacked = z.mean(2, keepdim=True).expand(-1, -1, 12, -1, -1) + off * (z.shape[1] > 1)
        return stacked, [z[:, -1:], z[:, -1:]]

    monkeypatch.setattr(type(codec.net_decoder), "forward", decode)
    assert codec.at_once(2, 3) == codec.at_once(2, 3) == (1 if off else AT_ONCE)
    codec.decoder().get_ready(2, 3, [3])
    assert seen == [AT_ONCE, 1, 1, 1], "tried once for each size"
    seen.clear()
    stream = codec.decoder()
    for count in (3, 4):
        stream.decode(torch.randn(count, 16, 2, 3))
    assert seen == calls


def test_encoding_frame_by_frame_is_encoding_at_once(codec: BuiltinCodec) -> None:
    frames = torch.rand(17, 24, 32, 3)
    with torch.no_grad():
        assert torch.allclose(codec.encode(frames), codec.encode_batch(frames[None])[0], atol=1e-4)


def test_causal_both_ways(codec: BuiltinCodec) -> None:
    frames = torch.rand(13, 16, 16, 3)
    changed = frames.clone()
    changed[9:] = 0
    before, after = codec.encode(frames), codec.encode(changed)
    assert torch.equal(before[:3], after[:3]) and not torch.equal(before[3], after[3])
    latents = torch.randn(4, 16, 2, 2)
    other = latents.clone()
    other[3] = 0
    one, two = codec.decoder().decode(latents), codec.decoder().decode(other)
    assert torch.equal(one[:9], two[:9]) and not torch.equal(one[9:], two[9:])


def test_the_past_matters(codec: BuiltinCodec) -> None:
    latents = torch.randn(2, 16, 2, 2)
    alone = codec.decoder().decode(latents[1:])[0]
    assert not torch.allclose(codec.decoder().decode(latents)[4], alone, atol=1e-3)


def test_file_round_trip(codec: BuiltinCodec, tmp_path) -> None:
    path = tmp_path / "codec.safetensors"
    save_codec(codec.half().float(), path, {"steps": "1"})
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode  # not its owner's alone
    loaded = load_codec(path)
    frames = torch.rand(5, 16, 16, 3)
    assert loaded.config == SMALL and torch.equal(loaded.encode(frames), codec.encode(frames))
    assert len(loaded.fingerprint) == 16 and loaded.fingerprint == load_codec(path).fingerprint


def test_bad_files_are_named(tmp_path) -> None:
    with pytest.raises(CheckpointError, match="there is no nothing"):
        load_codec(tmp_path / "nothing.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(CheckpointError, match="text file"):
        load_codec(tmp_path / "text.safetensors")


def test_wrong_input_is_refused(codec: BuiltinCodec) -> None:
    with pytest.raises(GroundedError, match="4 pictures"):
        codec.encode(torch.rand(4, 16, 16, 3))
    with pytest.raises(GroundedError, match="12x16"):
        codec.encode(torch.rand(5, 16, 12, 3))
    with pytest.raises(GroundedError, match="wants latents"):
        codec.decoder().decode(torch.randn(2, 4, 2, 2))
    with pytest.raises(GroundedError, match="does not belong"):
        codec.decoder().restore({"memory": torch.zeros(1)})


def test_default_size_fits_its_file() -> None:
    codec = BuiltinCodec()
    bytes_fp16 = 2 * sum(p.numel() for p in codec.parameters())
    assert bytes_fp16 < 5e6
