"""The tiny autoencoder with random weights: a stream equals the whole clip, and nothing looks ahead."""

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gf_core.errors import CheckpointError, GroundedError
from gf_core.vae.base import LatentCodec, StreamDecoder, copied, lies_last, lifted, put
from gf_core.vae.decoders import look_of
from gf_core.vae.load import build_vae, detect_vae, load_vae
from gf_core.vae.taehv import TAEHV, Grow, MemBlock, TinyDecoder
from gf_core.vae.tiles import Tiled

from .kinds import file_state, taehv


@pytest.fixture(scope="module")
def tiny():
    return taehv()


def whole_clip(network, x):
    """Every layer over the whole clip at once, memory as a shift in time: the plain form of the network."""
    for layer in network:
        past = F.pad(x, (0, 0, 0, 0, 0, 0, 1, 0))[:-1]
        x = F.relu(layer.conv(torch.cat([x, past], 1)) + x) if isinstance(layer, MemBlock) else layer(x)
    return x


def test_public_layout():
    with torch.device("meta"):
        codec = TAEHV()
    state = file_state(codec)
    assert len(state) == 128 and sum(value.numel() for value in state.values()) == 11_315_539
    assert detect_vae(state) == "taehv"
    assert state["decoder.3.conv.0.weight"].shape == (256, 512, 3, 3)
    assert state["decoder.13.conv.weight"].shape == (256, 128, 1, 1)
    assert state["encoder.2.conv.weight"].shape == (64, 128, 1, 1)


@pytest.mark.parametrize("sizes", [(6,), (1, 1, 1, 1, 1, 1), (3, 3), (2, 4), (1, 2, 3)])
def test_any_split_equals_the_whole_clip(tiny, sizes):
    latents = torch.randn(6, 16, 3, 4)
    decoder = tiny.decoder()
    parts = [decoder.decode(part) for part in latents.split(sizes)]
    assert [len(part) for part in parts] == [4 * sizes[0] - 3, *(4 * size for size in sizes[1:])]
    expected = whole_clip(tiny.decoder_net, latents)[3:].clamp(0, 1).permute(0, 2, 3, 1)
    assert torch.allclose(torch.cat(parts), expected, atol=1e-5)
    assert torch.equal(torch.cat(parts), tiny.decoder().decode(latents))
    assert (expected > 0).float().mean() > 0.05 and expected.std() > 0.05


@pytest.mark.parametrize("sizes", [(6,), (1, 3, 2)])
def test_the_layout_of_a_card_gives_the_same_pictures(tiny, sizes):
    """Channels last, and a call's latent frames together: another order of sums and nothing else."""
    latents = torch.randn(6, 16, 3, 4)
    expected = whole_clip(tiny.decoder_net, latents)[3:].clamp(0, 1).permute(0, 2, 3, 1)
    decoder = TinyDecoder(build_vae(file_state(tiny)), channels_last=True)
    parts = [decoder.decode(part) for part in latents.split(sizes)]
    assert torch.allclose(torch.cat(parts), expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("width", [8, 6])
def test_a_card_copies_many_channels_at_a_time_and_the_same_numbers(width, dtype):
    """Whether 16 bytes fit into the channels or not."""
    x = torch.randn(3, 2 * width, 5, 4).to(dtype)
    last = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(lifted(last, 2), lifted(x, 2)) and lies_last(lifted(last, 2))
    place = torch.zeros(3, 4 * width, 5, 4, dtype=dtype).contiguous(memory_format=torch.channels_last)
    put(place[1:, 2 * width :], last[:-1])
    assert (
        torch.equal(place[1:, 2 * width :], x[:-1]) and not place[:, : 2 * width].any() and not place[0].any()
    )
    assert torch.equal(copied(place[1:, 2 * width :]), x[:-1]) and lies_last(copied(place[1:, 2 * width :]))
    put(place[:1, 2 * width :], x[2:])  # laid otherwise, as a state from a file may be
    assert torch.equal(place[:1, 2 * width :], x[2:])


def test_a_state_is_the_same_in_both_layouts(tiny):
    latents = torch.randn(4, 16, 3, 4)
    plain, card = TinyDecoder(tiny), TinyDecoder(build_vae(file_state(tiny)), channels_last=True)
    plain.decode(latents[:2])
    card.restore(plain.snapshot())
    assert torch.allclose(card.decode(latents[2:]), plain.decode(latents[2:]), atol=1e-5)


@pytest.mark.gpu
def test_a_card_adds_and_clips_as_it_convolves():
    """To the rounding of bfloat16, at every width, and the same bits twice."""
    codec = TAEHV().eval().requires_grad_(False)
    latents = torch.randn(4, 16, 12, 20)
    wanted = codec.decoder().decode(latents)
    codec = codec.to("cuda", torch.bfloat16)
    one, two = (codec.decoder().decode(latents.cuda()).cpu() for _ in "ab")
    assert torch.equal(one, two) and codec.arithmetic
    assert (one - wanted).abs().mean() < 5e-3


@pytest.mark.parametrize("factor", [1, 2])
def test_pixels_are_doubled_behind_what_mixes_their_channels_to_the_same_bits(factor):
    """As published, pixels are doubled first; four times the work for the same numbers."""
    grow, x = Grow(8, factor), torch.randn(2, 8, 5, 6)
    published = grow.conv(F.interpolate(x, scale_factor=2)).unflatten(1, (factor, 8)).flatten(0, 1)
    assert torch.equal(grow(x), published)


def test_time_runs_one_way_and_far(tiny):
    latents = torch.randn(12, 16, 2, 2)
    changed = latents.clone()
    changed[2] += 1
    difference = whole_clip(tiny.decoder_net, latents) - whole_clip(tiny.decoder_net, changed)
    moved = difference.abs().amax((1, 2, 3))
    assert not moved[: 2 * 4].any() and moved[2 * 4] > 0
    # Nine blocks: three at one, three at two and three at four frames per latent reach 3 + 3 / 2 + 3 / 4 latents back
    # at least; a stream must therefore keep memory, an overlap of three latents is not enough.
    assert moved[(2 + 4) * 4] > 0


def test_encode_in_groups_equals_the_whole_clip(tiny):
    frames = torch.rand(9, 16, 24, 3)
    padded = torch.cat([frames, frames[-1:].expand(3, -1, -1, -1)]).permute(0, 3, 1, 2)
    latents = tiny.encode(frames)
    assert latents.shape == (3, 16, 2, 3)
    assert torch.allclose(latents, whole_clip(tiny.encoder, padded), atol=1e-5)
    assert tiny.encode(frames[:1]).shape == (1, 16, 2, 3)
    assert torch.equal(tiny.encode(frames[:8]), latents[:2])


def test_state_is_one_frame_per_block(tiny):
    decoder = tiny.decoder()
    decoder.decode(torch.randn(5, 16, 2, 3))
    shapes = {name: tuple(value.shape) for name, value in decoder.snapshot().items()}
    assert shapes["03"] == (1, 12, 2, 3) and shapes["09"] == (1, 10, 4, 6) and shapes["17"] == (1, 8, 8, 12)
    assert all(value.untyped_storage().nbytes() == value.nbytes for value in decoder.snapshot().values())


def test_files_of_half_types_are_computed_in_float32_on_the_processor(tmp_path, tiny):
    save_file({name: value.half() for name, value in file_state(tiny).items()}, tmp_path / "t.safetensors")
    codec = load_vae(tmp_path / "t.safetensors")
    assert {parameter.dtype for parameter in codec.parameters()} == {torch.float32}
    asked = load_vae(tmp_path / "t.safetensors", dtype=torch.float16)
    assert {parameter.dtype for parameter in asked.parameters()} == {torch.float16}


@pytest.mark.parametrize("form", ["fp8", "scaled fp8", "gguf"])
def test_files_of_packed_weights_hold_what_was_packed(tmp_path, tiny, form):
    state, path = file_state(tiny), tmp_path / "taew2_1.safetensors"
    small = {name: value.to(torch.float8_e4m3fn) for name, value in state.items() if value.dim() == 4}
    half = torch.tensor(0.5)
    if form == "gguf":
        from dev.bench.forms import write_gguf  # with a package that a machine with a card may lack

        path = write_gguf(path.with_suffix(".gguf"), state, "F16", architecture="pig", which=lambda *_: True)
        want = {name: value.half().float() for name, value in state.items()}
    elif form == "fp8":
        save_file({**state, **small}, path)
        want = {**state, **{name: value.float() for name, value in small.items()}}
    else:
        scales = {f"{name.removesuffix('.weight')}.scale_weight": half.clone() for name in small}
        save_file({**state, **small, **scales, "scaled_fp8": torch.zeros(1)}, path)
        want = {**state, **{name: value.float() / 2 for name, value in small.items()}}
    latents = torch.randn(2, 16, 2, 2)
    codec = load_vae(path)
    assert torch.equal(codec.decoder().decode(latents), build_vae(want).decoder().decode(latents))
    assert {weight.dtype for weight in codec.parameters()} == {torch.float32}


def test_a_vae_packed_in_a_way_not_read_is_named(tmp_path, tiny):
    state = file_state(tiny)
    name = "decoder.3.conv.0"
    odd = {f"{name}.weight": state[f"{name}.weight"].to(torch.int8), f"{name}.SCB": torch.ones(1)}
    save_file({**state, **odd}, tmp_path / "taew2_1.safetensors")
    with pytest.raises(CheckpointError, match=r"is a VAE packed in a way that is not read .*SCB"):
        load_vae(tmp_path / "taew2_1.safetensors")


def test_files_load_and_extra_growth_is_trimmed(tmp_path, tiny):
    state = file_state(tiny)
    state["decoder.7.conv.weight"] = torch.cat([torch.randn(12, 12, 1, 1), state["decoder.7.conv.weight"]])
    save_file({name: value.contiguous() for name, value in state.items()}, tmp_path / "taew2_1.safetensors")
    torch.save(file_state(tiny), tmp_path / "taew2_1.pth")
    latents = torch.randn(2, 16, 2, 2)
    for name in ("taew2_1.safetensors", "taew2_1.pth"):
        codec = load_vae(tmp_path / name)
        assert isinstance(codec, LatentCodec) and isinstance(codec.decoder(), StreamDecoder)
        assert torch.equal(codec.decoder().decode(latents), tiny.decoder().decode(latents))
        assert codec.fingerprint


def test_patched_pictures():
    codec = TAEHV(4, (8, 8, 8, 8), encoder_width=8, patch=2)
    codec = build_vae({name: value.detach() for name, value in file_state(codec).items()})
    assert codec.spatial_stride == 16
    assert codec.decoder().decode(torch.randn(2, 4, 1, 2)).shape == (5, 16, 32, 3)
    assert codec.encode(torch.rand(5, 16, 32, 3)).shape == (2, 4, 1, 2)


def test_wrong_things_are_refused_in_words(tiny):
    state = file_state(tiny)
    with pytest.raises(CheckpointError, match=r"no decoder\.14\.weight"):
        build_vae({name: value for name, value in state.items() if name != "decoder.14.weight"})
    with pytest.raises(CheckpointError, match="do not make a TAEHV"):
        build_vae({name: value for name, value in state.items() if name != "decoder.19.conv.weight"})
    with pytest.raises(GroundedError, match="16"):
        tiny.decoder().decode(torch.zeros(1, 4, 2, 2))
    with pytest.raises(GroundedError, match="does not belong"):
        tiny.decoder().restore({"03": torch.zeros(1)})
    with pytest.raises(GroundedError, match="multiple of 8"):
        tiny.encode(torch.zeros(1, 12, 16, 3))


def test_pictures_are_told_apart_where_a_codec_rounds_in_its_own_way(monkeypatch):
    """In tiles too; and keep their key where it does not: a Take made before goes on."""
    codec = TAEHV(16, (8, 8, 8, 8), encoder_width=8, fingerprint="tiny")
    tiled = Tiled(codec, 40)
    assert look_of(codec) == "tiny" and look_of(tiled) == tiled.fingerprint
    monkeypatch.setattr(TAEHV, "arithmetic", "its own")
    tiled = Tiled(codec, 40)
    assert look_of(codec) not in ("tiny", "its own") and look_of(tiled) != tiled.fingerprint
