"""The streaming Wan VAE against one-shot decoding, recorded reference numbers, and every way weights are named."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gf_core.errors import CheckpointError, GroundedError
from gf_core.files.fingerprint import hash_state
from gf_core.vae.base import LatentCodec, StreamDecoder
from gf_core.vae.load import build_vae, detect_vae, load_vae
from gf_core.vae.wan import WanVAE
from gf_core.vae.wan_names import canonical, read_sizes

pytest.importorskip("diffusers")

ROOT = Path(__file__).parents[2]
GOLDEN = [ROOT / "tests" / "fixtures" / "golden", ROOT.parent / "shared" / "golden"]
CASE = "case8_wan_vae"
TOLERANCE = 2e-5


def close(got, expected, tolerance=TOLERANCE):
    """Largest difference within tolerance; NaN is a difference."""
    assert got.shape == expected.shape
    assert torch.isfinite(got).all()
    worst = (got - expected).abs().max().item()
    assert worst <= tolerance, f"off by {worst}"


@pytest.fixture(scope="module")
def golden():
    folder = next((folder for folder in GOLDEN if (folder / f"{CASE}.safetensors").is_file()), None)
    if folder is None:
        pytest.skip(f"recorded numbers {CASE}.safetensors are not here")
    return load_file(folder / f"{CASE}.safetensors"), json.loads((folder / f"{CASE}.json").read_text())


def weights(tensors):
    return {name.removeprefix("weights."): t for name, t in tensors.items() if name.startswith("weights.")}


@pytest.fixture(scope="module")
def recorded(golden):
    tensors, _ = golden
    mean, std = tensors["in.latents_mean"].tolist(), tensors["in.latents_std"].tolist()
    return build_vae(weights(tensors), latents_mean=tuple(mean), latents_std=tuple(std))


@pytest.fixture(scope="module")
def tiny():
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    network = AutoencoderKLWan(base_dim=4, z_dim=16, dim_mult=[1, 2, 2, 2], num_res_blocks=1)
    for parameter in network.parameters():
        if parameter.ndim > 1 and parameter.shape[1:].numel() > 1:
            torch.nn.init.normal_(parameter, std=1.3 / parameter.shape[1:].numel() ** 0.5)
    return WanVAE(network.eval().requires_grad_(False), fingerprint="tiny")


def film(latent):
    """[1 c f h w] as recorded -> [f c h w]."""
    return latent[0].movedim(0, 1)


def test_recorded_decode(golden, recorded):
    tensors, _ = golden
    latents = film(tensors["in.z"])
    close(recorded.decoder().decode_raw(latents), film(tensors["out.wan21.decode"]))
    close(recorded.decoder().decode_raw(latents[:1]), film(tensors["out.wan21.decode_first_latent_only"]))
    pixels = recorded.decoder().decode(latents).movedim(-1, 1)
    close(pixels * 2 - 1, film(tensors["out.diffusers.decode_clamped"]))


@pytest.mark.parametrize("sizes", [(1, 2, 2), (3, 2)])
def test_recorded_streams(golden, recorded, sizes):
    tensors, _ = golden
    decoder = recorded.decoder()
    parts = [decoder.decode_raw(part) for part in film(tensors["in.z"]).split(sizes)]
    assert [len(part) for part in parts] == [1 + 4 * (sizes[0] - 1), *(4 * size for size in sizes[1:])]
    close(torch.cat(parts), film(tensors[f"out.stream.chunks_{'_'.join(map(str, sizes))}"]))


def test_recorded_encode(golden, recorded):
    tensors, _ = golden
    frames = (film(tensors["in.video"]).movedim(1, -1) + 1) / 2
    close(recorded.encode(frames), film(tensors["out.wan21.encode"]))
    close(recorded.encode_natural(frames), film(tensors["out.wan21.encode_unscaled_mu"]))
    close(recorded.encode(frames[:1]), film(tensors["out.wan21.encode_first_frame_only"]))
    close(recorded.encode(frames[:-2]), film(tensors["out.wan21.encode_T_minus_2"]))
    close(
        recorded.decoder().decode_raw(recorded.encode(frames)),
        film(tensors["out.wan21.decode_of_encode"]),
        5e-5,
    )


def test_recorded_state_layout(golden, recorded):
    tensors, notes = golden
    decoder = recorded.decoder()
    for slots in (
        notes["decoder_cache_slots"]["after_first_latent"],
        notes["decoder_cache_slots"]["after_second_latent"],
    ):
        position = 0 if slots is notes["decoder_cache_slots"]["after_first_latent"] else 1
        decoder.decode_raw(film(tensors["in.z"])[position : position + 1])
        expected = {
            f"{n:02d}.repeat" if slot == "Rep" else f"{n:02d}": [1] if slot == "Rep" else slot
            for n, slot in enumerate(slots)
            if slot is not None
        }
        assert {name: list(value.shape) for name, value in decoder.snapshot().items()} == expected


def test_renaming_is_the_recorded_table(golden):
    tensors, notes = golden
    state = weights(tensors)
    table = notes["rename_wan_to_diffusers"]
    renamed = canonical(state)
    assert set(table) == set(state)
    assert all(renamed[new] is state[old] for old, new in table.items())
    assert canonical(renamed) == renamed
    model = notes["model"]
    assert read_sizes(renamed) == {
        "base_dim": model["dim"], "z_dim": model["z_dim"], "dim_mult": model["dim_mult"],
        "num_res_blocks": model["num_res_blocks"], "temperal_downsample": model["temperal_downsample"],
    }  # fmt: skip


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (2, 2), (3, 1), (1, 3)])
def test_any_split_is_bit_equal_to_one_call(tiny, sizes):
    latents = torch.randn(4, 16, 2, 3)
    whole = tiny.decoder().decode_raw(latents)
    decoder = tiny.decoder()
    assert torch.equal(torch.cat([decoder.decode_raw(part) for part in latents.split(sizes)]), whole)
    one_shot = tiny.network.decode(tiny.natural(latents).movedim(0, 1)[None]).sample[0].movedim(0, 1)
    # Not to the bit: diffusers runs the first 1x1x1 convolution over the whole clip.
    close(whole.clamp(-1, 1), one_shot, 1e-5)
    assert len(whole) == 13
    assert whole.std() > 0.05


@pytest.mark.parametrize("at", [0, 1, 2])
def test_snapshot_continues_bit_for_bit(tiny, at):
    latents = torch.randn(4, 16, 2, 3)
    whole = tiny.decoder().decode(latents)
    decoder = tiny.decoder()
    head = decoder.decode(latents[:at])
    state = {name: value.clone() for name, value in decoder.snapshot().items()}
    decoder.decode(torch.randn(2, 16, 2, 3))
    decoder.restore(state)
    assert torch.equal(torch.cat([head, decoder.decode(latents[at:])]), whole)
    fresh = tiny.decoder()
    fresh.restore(state)
    assert torch.equal(torch.cat([head, fresh.decode(latents[at:])]), whole)
    assert bool(state) == (at > 0)


def test_snapshot_is_not_written_to_later(tiny):
    decoder = tiny.decoder()
    decoder.decode(torch.randn(2, 16, 2, 3))
    state = decoder.snapshot()
    before = {name: value.clone() for name, value in state.items()}
    decoder.decode(torch.randn(2, 16, 2, 3))
    assert all(torch.equal(state[name], before[name]) for name in before)


def test_state_stops_growing(tiny):
    decoder = tiny.decoder()
    sizes = []
    for _ in range(4):
        decoder.decode(torch.randn(1, 16, 2, 2))
        sizes.append(sum(value.numel() for value in decoder.snapshot().values()))
    assert sizes[1] == sizes[2] == sizes[3]


def test_normalisation_is_undone(tiny):
    latents = torch.randn(2, 16, 3, 3)
    assert torch.allclose(tiny.normalised(tiny.natural(latents)), latents, atol=1e-6)
    natural = tiny.natural(torch.ones(1, 16, 1, 1)).flatten()
    assert natural[0].item() == pytest.approx(2.8184 - 0.7571) and natural[15].item() == pytest.approx(
        1.9160 - 0.2921
    )


def test_half_weights_keep_the_constants(tiny, golden):
    half = build_vae({name: value.bfloat16() for name, value in tiny.network.state_dict().items()})
    assert half.decoder().decode(torch.randn(2, 16, 2, 2)).dtype == torch.float32
    assert torch.equal(half.natural(torch.ones(1, 16, 1, 1)), tiny.natural(torch.ones(1, 16, 1, 1)))


def test_files_under_every_name(tmp_path, golden):
    tensors, _ = golden
    state = weights(tensors)
    latents = film(tensors["in.z"])[:2]
    expected = build_vae(state).decoder().decode_raw(latents)
    save_file(state, tmp_path / "original.safetensors")
    save_file({f"first_stage_model.{n}": t for n, t in state.items()}, tmp_path / "prefixed.safetensors")
    torch.save(state, tmp_path / "Wan2.1_VAE.pth")
    torch.save({"state_dict": state}, tmp_path / "wrapped.pth")
    beside = {f"vae.{name}": value for name, value in state.items()}
    beside["model.diffusion_model.blocks.0.weight"] = torch.ones(1)
    save_file(beside, tmp_path / "both.safetensors")
    (tmp_path / "vae").mkdir()
    save_file(canonical(state), tmp_path / "vae" / "diffusion_pytorch_model.safetensors")
    (tmp_path / "vae" / "config.json").write_text("{}")
    prints = set()
    for name in (
        "original.safetensors",
        "prefixed.safetensors",
        "Wan2.1_VAE.pth",
        "wrapped.pth",
        "both.safetensors",
        "vae",
    ):
        codec = load_vae(tmp_path / name)
        assert isinstance(codec, LatentCodec) and isinstance(codec.decoder(), StreamDecoder)
        assert (codec.channels, codec.spatial_stride, codec.time_stride) == (16, 8, 4)
        close(codec.decoder().decode_raw(latents), expected)
        prints.add(codec.fingerprint)
    assert len(prints) == 2, "original and diffusers names differ, wrappings do not"


def test_folder_constants_win(tmp_path, tiny):
    save_file(tiny.network.state_dict(), tmp_path / "diffusion_pytorch_model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"latents_mean": [0.0] * 16, "latents_std": [2.0] * 16}))
    codec = load_vae(tmp_path)
    assert torch.equal(codec.natural(torch.ones(1, 16, 1, 1)), torch.full((1, 16, 1, 1), 2.0))


@pytest.mark.parametrize("config", ["[" * 100_000, "{", '{"latents_mean": ["a"]}', '{"latents_std": 5}'])
def test_damaged_folder_settings_are_refused_in_words(tmp_path, tiny, config):
    save_file(tiny.network.state_dict(), tmp_path / "diffusion_pytorch_model.safetensors")
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_vae(tmp_path)


def test_a_layer_of_an_absurd_number_builds_nothing(tiny):
    state = {**tiny.network.state_dict(), "encoder.down_blocks.999999999.conv1.weight": torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r"layer .* of 1000000000 is missing"):
        read_sizes(state)


def test_foreign_files_are_refused_in_words(tmp_path, tiny):
    with pytest.raises(CheckpointError, match=r"there is no none\.safetensors"):
        load_vae(tmp_path / "none.safetensors")
    save_file({"blocks.0.self_attn.q.weight": torch.ones(2, 2)}, tmp_path / "dit.safetensors")
    with pytest.raises(CheckpointError, match="not a VAE"):
        load_vae(tmp_path / "dit.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{}")
    with pytest.raises(CheckpointError, match="cut off"):
        load_vae(tmp_path / "cut.safetensors")
    torch.save({"a": Path("x")}, tmp_path / "code.pth")
    with pytest.raises(CheckpointError, match="not opened"):
        load_vae(tmp_path / "code.pth")
    state = dict(tiny.network.state_dict())
    del state["decoder.conv_out.bias"]
    with pytest.raises(CheckpointError, match="do not make a Wan VAE"):
        build_vae(state)
    state = {**tiny.network.state_dict(), "decoder.conv_out.weight": torch.zeros(12, 4, 3, 3, 3)}
    with pytest.raises(CheckpointError, match="another family"):
        build_vae(state)


def test_wrong_shapes_are_refused_in_words(tiny):
    with pytest.raises(GroundedError, match="16"):
        tiny.decoder().decode(torch.zeros(1, 4, 2, 2))
    with pytest.raises(GroundedError, match="20x16"):
        tiny.encode(torch.zeros(1, 16, 20, 3))
    with pytest.raises(GroundedError, match="does not belong"):
        tiny.decoder().restore({"99": torch.zeros(1)})


def test_detect_and_fingerprint():
    assert detect_vae(["decoder.1.weight", "decoder.3.conv.0.weight", "encoder.0.weight"]) == "taehv"
    assert detect_vae(["latent_mean", "net_decoder.conv.weight"]) == "builtin"
    assert detect_vae(["a"]) is None
    one = {"a": torch.zeros(2), "b": torch.ones(1)}
    assert hash_state(one) == hash_state(dict(reversed(one.items()))) == "4c7a21249c6abacb"
    assert hash_state(one) != hash_state({**one, "b": torch.full((1,), 2.0)})
