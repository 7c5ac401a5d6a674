"""The streaming Wan VAE against one-shot decoding, recorded reference numbers, and every way weights are named."""

import json
import sys
from itertools import product
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dev.bench.forms import write_gguf
from gf_core.errors import CheckpointError, GroundedError
from gf_core.files.fingerprint import hash_state
from gf_core.vae.base import LatentCodec, StreamDecoder
from gf_core.vae.load import build_vae, canonical, detect_vae, load_vae, read_sizes
from gf_core.vae.wan import WAN_MEAN, WAN_STD, WanDecoder, WanVAE
from gf_core.vae.wan_stages import causal_layers

from .kinds import wan

pytest.importorskip("diffusers")

ROOT = Path(__file__).parents[2]
GOLDEN = [ROOT / "tests" / "fixtures" / "golden", ROOT.parent / "shared" / "golden"]
CASE = "case8_wan_vae"
TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def tiny():
    return wan()


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


def original_names():
    """Tensor names of a Wan2.1 VAE with two residual blocks in every stage, as its authors published it."""

    def block(place, inner, leaves=("weight", "bias")):
        return [f"{place}.{inner}.{leaf}" for leaf in leaves]

    def residual(place, shortcut=False):
        names = [*block(place, "residual.0", ["gamma"]), *block(place, "residual.2")]
        names += [*block(place, "residual.3", ["gamma"]), *block(place, "residual.6")]
        return names + (block(place, "shortcut") if shortcut else [])

    names = ["conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias"]
    for side in ("encoder", "decoder"):
        names += [*block(side, "conv1"), *block(side, "head.0", ["gamma"]), *block(side, "head.2")]
        names += [*residual(f"{side}.middle.0"), *residual(f"{side}.middle.2")]
        names += [*block(f"{side}.middle.1", "norm", ["gamma"]), *block(f"{side}.middle.1", "to_qkv")]
        names += block(f"{side}.middle.1", "proj")
    for n in (0, 1, 3, 4, 6, 7, 9, 10):
        names += residual(f"encoder.downsamples.{n}", shortcut=n in (3, 6))
    for n in (0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14):
        names += residual(f"decoder.upsamples.{n}", shortcut=n == 4)
    for place, in_time in (("encoder.downsamples", (5, 8)), ("decoder.upsamples", (3, 7))):
        for n in (*in_time, 2 if place.startswith("encoder") else 11):
            names += block(f"{place}.{n}", "resample.1")
            names += block(f"{place}.{n}", "time_conv") if n in in_time else []
    return names


@pytest.fixture(scope="module")
def original():
    """Small random weights under the original names, renamed by diffusers' own converter."""
    from diffusers import AutoencoderKLWan
    from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

    torch.manual_seed(1)
    state = AutoencoderKLWan(base_dim=4, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2).state_dict()
    renamed = convert_wan_vae_to_diffusers({name: name for name in original_names()})
    assert set(renamed) == set(state)
    return {old: state[new].contiguous() for new, old in renamed.items()}


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


def test_renaming_is_diffusers_own(original):
    from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

    renamed = canonical(original)
    wanted = convert_wan_vae_to_diffusers(dict(original))
    assert len(renamed) == 194 and set(renamed) == set(wanted)
    assert all(renamed[name] is wanted[name] for name in wanted)
    assert canonical(renamed) == renamed
    assert read_sizes(renamed) == {
        "base_dim": 4, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2,
        "temperal_downsample": [False, True, True],
    }  # fmt: skip


def test_the_constants_are_the_published_ones():
    from diffusers import AutoencoderKLWan

    with torch.device("meta"):
        published = AutoencoderKLWan(base_dim=4, dim_mult=[1, 2, 2, 2], num_res_blocks=1).config
    assert list(WAN_MEAN) == list(published.latents_mean) and list(WAN_STD) == list(published.latents_std)
    # Written down once more: a diffusers of another day may say something else.
    assert sum(WAN_MEAN) == pytest.approx(-0.7332) and sum(WAN_STD) == pytest.approx(34.2747)
    weighed = [sum(n * value for n, value in enumerate(values)) for values in (WAN_MEAN, WAN_STD)]
    assert weighed == pytest.approx([0.5206, 251.8508])


def test_numbers_are_named_and_clamped_as_they_should_be(tiny):
    latents = 3 * torch.randn(2, 16, 2, 3)
    raw, pictures = tiny.decoder().decode_raw(latents), tiny.decoder().decode(latents)
    assert raw.shape == (5, 3, 16, 24) and pictures.shape == (5, 16, 24, 3) and raw.abs().max() > 1
    assert torch.equal(pictures, ((raw.clamp(-1, 1) + 1) / 2).permute(0, 2, 3, 1))
    close(tiny.decoder().decode_raw(latents[:1]), raw[:1])


@pytest.mark.parametrize("count", [1, 2, 4, 5, 6, 8, 9, 13])
def test_encoding_equals_one_shot_encoding(tiny, count):
    """One latent frame for the first picture and one for every whole group of 4 behind it; the rest is left out."""
    frames = torch.rand(13, 16, 24, 3, generator=torch.Generator().manual_seed(2))[:count]
    latents = tiny.encode(frames)
    whole = 1 + (count - 1) // 4
    assert latents.shape == (whole, 16, 2, 3) and latents.dtype == torch.float32
    pixels = (frames[: 4 * whole - 3] * 2 - 1).permute(3, 0, 1, 2)[None]
    natural = tiny.network.encode(pixels).latent_dist.mode()[0].movedim(0, 1)
    close(tiny.encode_natural(frames), natural)
    mean, std = (torch.tensor(values)[:, None, None] for values in (WAN_MEAN, WAN_STD))
    close(latents, (natural - mean) / std)
    assert latents.std() > 0.05 and (whole == 1 or (latents[-1] - latents[0]).abs().max() > 1e-3)


def test_decoding_an_encoded_film_keeps_its_length(tiny):
    frames = torch.rand(9, 16, 24, 3)
    assert tiny.decoder().decode(tiny.encode(frames)).shape == frames.shape


def test_state_layout(tiny):
    """One slot per causal convolution: one frame after the first latent, two from then on; layers that double time
    see nothing of the first. Two slots belong to shortcuts, which keep no past."""
    decoder = tiny.decoder()
    decoder.decode_raw(torch.randn(1, 16, 2, 3))
    wide, half, full, big = (1, 8, 1, 2, 3), (1, 8, 1, 4, 6), (1, 8, 1, 8, 12), (1, 4, 1, 16, 24)
    first = [
        (1, 16, 1, 2, 3),
        *[wide] * 8,
        (1,),
        (1, 4, 1, 4, 6),
        *[half] * 3,
        (1,),
        (1, 4, 1, 8, 12),
        *[full] * 3,
    ]
    first += [big] * 5
    names = [f"{n:02d}.repeat" if shape == (1,) else f"{n:02d}" for n, shape in enumerate(first)]
    assert {name: tuple(value.shape) for name, value in decoder.snapshot().items()} == dict(zip(names, first))
    for _ in range(2):
        decoder.decode_raw(torch.randn(1, 16, 2, 3))
        shapes = {name: tuple(value.shape) for name, value in decoder.snapshot().items()}
        grown = [{9: wide, 14: half}.get(n, shape) for n, shape in enumerate(first)]
        assert shapes == {f"{n:02d}": (1, s[1], 2, *s[3:]) for n, s in enumerate(grown)}


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (2, 2), (3, 1), (1, 3)])
def test_any_split_is_bit_equal_to_one_call(tiny, sizes):
    latents = torch.randn(4, 16, 2, 3)
    whole = tiny.decoder().decode_raw(latents)
    decoder = tiny.decoder()
    parts = [decoder.decode_raw(part) for part in latents.split(sizes)]
    assert [len(part) for part in parts] == [4 * sizes[0] - 3, *(4 * size for size in sizes[1:])]
    assert torch.equal(torch.cat(parts), whole)
    one_shot = tiny.network.decode(tiny.natural(latents).movedim(0, 1)[None]).sample[0].movedim(0, 1)
    # Not to the bit: diffusers runs the first 1x1x1 convolution over the whole clip.
    close(whole.clamp(-1, 1), one_shot, 1e-5)
    assert len(whole) == 13
    assert whole.std() > 0.05


def diffusers_own(vae, latents):
    """Pictures `t 3 H W` by diffusers' forward, a latent frame at a time, and its cache."""
    network = vae.network
    cache = [None] * sum(type(layer).__name__ == "WanCausalConv3d" for layer in network.decoder.modules())
    made = []
    for natural in vae.natural(latents).split(1):
        features = network.post_quant_conv(natural.movedim(0, 1)[None])
        made.append(network.decoder(features, feat_cache=cache, feat_idx=[0])[0].movedim(0, 1))
    return torch.cat(made), cache


@pytest.mark.parametrize("cells", [(2, 3), (7, 5)])
def test_the_walk_is_diffusers_own_forward_to_the_bit(tiny, cells):
    """So films made before go on with the same bytes: pictures and state, and the slots are numbered alike."""
    latents = torch.randn(4, 16, *cells)
    whole, cache = diffusers_own(tiny, latents)
    decoder = tiny.decoder()
    assert torch.equal(torch.cat([decoder.decode_raw(part) for part in latents.split((3, 1))]), whole)
    state = decoder.snapshot()
    assert set(state) == {f"{slot:02d}" for slot, entry in enumerate(cache) if entry is not None}
    assert all(torch.equal(value, cache[int(name)]) for name, value in state.items())


def test_the_layout_of_a_card_gives_the_same_pictures(tiny):
    """Channels last, fused norms, and a call's latent frames together: another order of sums and nothing else."""
    card = WanVAE(build_vae(dict(tiny.network.state_dict())).network, fingerprint="tiny")
    latents = torch.randn(6, 16, 3, 2)
    whole, plain = tiny.decoder().decode_raw(latents), tiny.decoder()
    for sizes in ((6,), (3, 3), (1, 2, 3)):
        decoder = WanDecoder(card, channels_last=True)
        close(torch.cat([decoder.decode_raw(part) for part in latents.split(sizes)]), whole)
    plain.decode_raw(latents[:4])
    decoder.restore(plain.snapshot())  # a state is the same in both
    close(decoder.decode_raw(latents[4:]), whole[13:])
    layers = list(causal_layers(card.network.decoder))
    assert all(layer.weight.is_contiguous(memory_format=torch.channels_last_3d) for layer in layers)


def test_normalisation_is_undone(tiny):
    latents = torch.randn(2, 16, 3, 3)
    assert torch.allclose(tiny.normalised(tiny.natural(latents)), latents, atol=1e-6)
    natural = tiny.natural(torch.ones(1, 16, 1, 1)).flatten()
    assert natural[0].item() == pytest.approx(2.8184 - 0.7571) and natural[15].item() == pytest.approx(
        1.9160 - 0.2921
    )


def test_half_weights_keep_the_constants(tiny):
    half = build_vae({name: value.bfloat16() for name, value in tiny.network.state_dict().items()})
    assert half.decoder().decode(torch.randn(2, 16, 2, 2)).dtype == torch.float32
    assert torch.equal(half.natural(torch.ones(1, 16, 1, 1)), tiny.natural(torch.ones(1, 16, 1, 1)))


@pytest.mark.parametrize(
    ("stored", "form"), list(product([torch.float16, torch.bfloat16], ["file", "folder"]))
)
def test_a_file_of_half_types_is_computed_in_float32_on_the_processor(tmp_path, tiny, stored, form):
    """It computes nothing else well; whoever wants another type says so."""
    state = {name: value.to(stored) for name, value in tiny.network.state_dict().items()}
    path = tmp_path / "vae.safetensors"
    save_file(state, path)
    codec = load_vae(path if form == "file" else tmp_path)
    assert {p.dtype for p in codec.network.parameters()} == {torch.float32}
    latents = torch.randn(2, 16, 2, 2)
    same = build_vae({name: value.float() for name, value in state.items()})
    assert torch.equal(codec.decoder().decode(latents), same.decoder().decode(latents))
    asked = load_vae(path, dtype=stored)
    assert {p.dtype for p in asked.network.parameters()} == {stored}


def test_files_under_every_name(tmp_path, original):
    state = original
    latents = torch.randn(2, 16, 2, 3)
    expected = build_vae(state).decoder().decode_raw(latents)
    save_file(state, tmp_path / "original.safetensors")
    save_file({f"first_stage_model.{n}": t for n, t in state.items()}, tmp_path / "prefixed.safetensors")
    torch.save(state, tmp_path / "Wan2.1_VAE.pth")
    torch.save({"state_dict": state}, tmp_path / "wrapped.pth")
    beside = {f"vae.{name}": value for name, value in state.items()}
    beside["model.diffusion_model.blocks.0.weight"] = torch.ones(1)
    save_file(beside, tmp_path / "both.safetensors")
    write_gguf(tmp_path / "wan_2.1_vae.gguf", state, "F32", architecture="pig")
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
        "wan_2.1_vae.gguf",
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
    slots = len(list(causal_layers(tiny.network.decoder)))
    tiny.decoder().restore({f"{slots - 1:02d}": torch.zeros(1)})
    for name in (f"{slots:02d}", "99", f"{slots}.repeat", "-1", "", "x", "03.other"):
        with pytest.raises(GroundedError, match="does not belong"):
            tiny.decoder().restore({name: torch.zeros(1)})


def test_detect_and_fingerprint():
    assert detect_vae(["decoder.1.weight", "decoder.3.conv.0.weight", "encoder.0.weight"]) == "taehv"
    assert detect_vae(["latent_mean", "net_decoder.conv.weight"]) == "builtin"
    assert detect_vae(["a"]) is None
    one = {"a": torch.zeros(2), "b": torch.ones(1)}
    assert hash_state(one) == hash_state(dict(reversed(one.items()))) == "4c7a21249c6abacb"
    assert hash_state(one) != hash_state({**one, "b": torch.full((1,), 2.0)})
