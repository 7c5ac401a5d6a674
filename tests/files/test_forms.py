"""Every form in which weights are published: recognised, read to the bit, and what is not read is named."""

import math
import struct
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


from dev.attack.gguf_headers import HOSTILE, OTHERS
from dev.bench.forms import FORMS, numbers_of, small, write_gguf
from gf_core.checkpoints.bundle import load_model
from gf_core.checkpoints.identify import identify, require_drivable
from gf_core.checkpoints.inspect import inspect_file
from gf_core.checkpoints.load import build_network
from gf_core.checkpoints.lora import open_lora
from gf_core.config import Fit, ModelSpec
from gf_core.errors import CheckpointError
from gf_core.files import gguf_file, scales
from gf_core.files.fingerprint import hash_tensors
from gf_core.files.scales import unscaled
from gf_core.files.tensors import open_file
from gf_core.model.bidirectional import bidirectional_flow
from gf_core.model.fp8 import Fp8Linear
from gf_core.model.wan import WanModel
from gf_core.words import exact_size

pytestmark = pytest.mark.usefixtures("own_cache")

SPEC = ModelSpec(dim=256, ffn_dim=96, num_heads=2, num_layers=1, text_len=512, text_dim=24, freq_dim=32)
KINDS = {"pt": "pickle", "sharded": "folder", "diffusers": "folder"}
PACKED = [name for name in FORMS if "fp8" in name or "int8" in name or "_Q" in name or "IQ" in name]
Q = "blocks.0.self_attn.q"


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return {name: value.detach().clone() for name, value in WanModel(SPEC).state_dict().items()}


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "model"
    place.mkdir()
    return place


def loaded(path, dtype=torch.float32, loras=(), fit=None):
    item = identify(path, assume="self_forcing")
    require_drivable(item, assumed=True)
    return build_network(item.what.spec, unscaled(item.what.tensors), dtype=dtype, loras=loras, fit=fit)


def flow(model):
    chance = torch.Generator().manual_seed(1)
    latents, prompt = (torch.randn(shape, generator=chance) for shape in ((1, 2, 16, 4, 4), (1, 7, 24)))
    with torch.no_grad():
        return bidirectional_flow(model, SPEC, latents, torch.tensor([[750.0]]), prompt)


@pytest.fixture(scope="module")
def plain_flow(state):
    model = WanModel(SPEC)
    model.load_state_dict(state)
    return flow(model)


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_read_to_the_bit(folder, state, plain_flow, monkeypatch, name):
    for module in (gguf_file, scales):  # in pieces, the last a shorter one
        monkeypatch.setattr(module, "_PIECE", 9000)
    form = FORMS[name]
    path = form.write(folder, state)
    assert open_file(path).kind == KINDS.get(name, name[:4] if name.startswith("gguf") else "safetensors")
    for dtype in (torch.float32, torch.bfloat16):
        model = loaded(path, dtype)
        for tensor, want in numbers_of(form, state).items():
            assert torch.equal(model.state_dict()[tensor], want.to(dtype)), tensor
    if form.error < math.inf:
        away = (flow(loaded(path)) - plain_flow).abs().max() / plain_flow.abs().max()
        assert form.error / 20 <= away <= form.error


@pytest.mark.parametrize("name", [name for name in FORMS if "fp8" in name and "e5m2" not in name])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_what_is_float8_in_the_file_is_not_rounded_again(folder, state, name, dtype):
    path = FORMS[name].write(folder, state)
    whole, small = loaded(path, dtype), loaded(path, dtype, fit=Fit(weights="fp8"))
    layer = small.blocks[0].ffn[0]
    assert isinstance(layer, Fp8Linear) and not isinstance(whole.blocks[0].ffn[0], Fp8Linear)
    x = torch.randn(3, layer.weight.shape[1], generator=torch.Generator().manual_seed(1)).to(dtype)
    assert torch.equal(layer(x), whole.blocks[0].ffn[0](x))


@pytest.mark.parametrize("name", PACKED)
def test_what_is_packed_is_told_with_what_it_takes_once_loaded(folder, state, name):
    report = dict(inspect_file(FORMS[name].write(folder, state), assume="self_forcing").rows)
    kind = name.removeprefix("gguf_")
    said = f"GGUF {kind}" if kind != name else f"scaled {name[:4].rstrip('_')}"
    said = said.removeprefix("scaled ") if name in ("fp8_e4m3", "fp8_e5m2") else said
    assert said in report["stored as"] and report["usable"] == "yes"
    numbers = sum(value.numel() for value in state.values())
    assert (
        report["in memory"] == f"{exact_size(2 * numbers)} as bfloat16, {exact_size(4 * numbers)} as float32"
    )
    assert kind == name or "GGUF)" in report["file"]


@pytest.mark.parametrize("name", PACKED)
def test_a_lora_is_added_to_the_numbers_that_were_packed(folder, tmp_path, state, name):
    torch.manual_seed(1)
    down, up = torch.randn(4, 256), torch.randn(256, 4)
    save_file({f"{Q}.lora_A.weight": down, f"{Q}.lora_B.weight": up}, tmp_path / "l.safetensors")
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    path = FORMS[name].write(folder, state)
    lora = open_lora(tmp_path / "l.safetensors", 0.5, shapes)
    got = loaded(path, loras=[lora]).state_dict()[f"{Q}.weight"]
    want = numbers_of(FORMS[name], state)[f"{Q}.weight"] + 0.5 * (up @ down)
    torch.testing.assert_close(got, want)


def test_the_fingerprint_is_of_the_file_s_bytes_and_their_packing(folder, state):
    path = write_gguf(folder / "m.gguf", state, "Q4_0")
    tensors = open_file(path).tensors
    first = hash_tensors(tensors)
    assert first == hash_tensors(open_file(write_gguf(folder / "again.gguf", state, "Q4_0")).tensors)
    whole = bytearray(path.read_bytes())
    place = whole.index(b"blocks.0.ffn.0.weight") + len("blocks.0.ffn.0.weight") + 4 + 16
    assert struct.unpack_from("<I", whole, place)[0] == 2
    whole[place] = 20  # Q4_0 and IQ4_NL are of one size
    path.write_bytes(whole)
    assert hash_tensors(open_file(path).tensors) != first
    name = "blocks.0.ffn.0.weight"
    assert tensors[name].nbytes == 96 * 256 // 32 * 18 and tensors[name].dtype == torch.float32


def test_tensors_begin_at_a_multiple_that_the_file_says(folder, state):
    path = write_gguf(
        folder / "m.gguf", state, "F32", tell=lambda writer: writer.add_custom_alignment(1 << 16)
    )
    tensors = open_file(path).tensors
    assert all(torch.equal(tensors[name].load(), value) for name, value in state.items())


def test_folded_axes_are_unfolded(folder, state):
    """ComfyUI-GGUF's converter folds what does not fit llama.cpp's four axes, and notes the shape."""
    patch = "patch_embedding.weight"
    folded = {**state, patch: state[patch].reshape(-1, 64)}

    def written(name, shape):
        def tell(writer):
            writer.add_array(f"comfy.gguf.orig_shape.{patch}", list(shape))

        return write_gguf(folder / name, folded, "Q8_0", tell=tell)

    path = written("m.gguf", state[patch].shape)
    assert torch.equal(loaded(path).state_dict()[patch], state[patch])
    with pytest.raises(CheckpointError, match="damaged GGUF file: patch_embedding"):
        open_file(written("n.gguf", (3, 3)))


def test_packed_weights_without_the_package_are_told_with_the_cure(folder, state, monkeypatch):
    monkeypatch.setattr(gguf_file, "find_spec", lambda name: None)
    assert loaded(write_gguf(folder / "plain.gguf", state, "F16"))
    path = write_gguf(folder / "m.gguf", state, "Q4_K", which=lambda name, value: small(name, value))
    report = dict(inspect_file(path, assume="self_forcing").rows)
    assert "GGUF Q4_K" in report["stored as"] and "package gguf" in report["usable"]
    assert report["do"] == "pip install gguf"
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(CheckpointError, match="Q4_K take the package gguf") as error:
        open_file(path).tensors[f"{Q}.weight"].load()
    assert error.value.fix == report["do"]


@pytest.mark.parametrize("what", OTHERS)
def test_other_gguf_files_are_named(folder, what):
    content, words = OTHERS[what]
    (folder / "m.gguf").write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        open_file(folder / "m.gguf")


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_headers_end_in_words_in_moments(folder, what):
    (folder / "m.gguf").write_bytes(HOSTILE[what])
    began = time.process_time()
    with pytest.raises(CheckpointError, match=r"m\.gguf is (a damaged GGUF file|cut off)") as error:
        open_file(folder / "m.gguf")
    assert time.process_time() - began < 1.5 and len(str(error.value)) < 500


def test_any_damaged_byte_and_any_cut_is_survived_or_refused(folder):
    whole = write_gguf(folder / "m.gguf", {"a.weight": torch.randn(2, 64), "b": torch.ones(3)}, "Q8_0",
                       which=lambda name, value: True).read_bytes()  # fmt: skip
    cut = [whole[:end] for end in range(4, len(whole), 7)]
    turned = [
        whole[:at] + bytes([value]) + whole[at + 1 :] for at in range(4, len(whole), 3) for value in (0, 255)
    ]
    for content in (*cut, *turned):
        (folder / "m.gguf").write_bytes(content)
        try:
            for tensor in open_file(folder / "m.gguf").tensors.values():
                tensor.load()
        except CheckpointError:
            continue
        assert content not in cut or len(content) > len(whole) - 32  # what is missing there is padding


def marked(weight, scale, form, **more):
    told = torch.tensor(list(form.encode()), dtype=torch.uint8)
    return {f"{Q}.weight": weight, f"{Q}.weight_scale": scale, f"{Q}.comfy_quant": told, **more}


FP8 = torch.zeros(256, 256, dtype=torch.float8_e4m3fn)
INT8, ONE = torch.zeros(256, 256, dtype=torch.int8), torch.ones(())
TURNED = '{"format": "int8_tensorwise", "convrot": true, "convrot_groupsize": 256}'
UNREAD = {
    "nvfp4": (marked(FP8, ONE, '{"format": "nvfp4"}'), {}, "stored as nvfp4, which is not read"),
    "ConvRot": (marked(INT8, torch.ones(256, 1), TURNED), {}, "stored as ConvRot"),
    "no JSON": (marked(FP8, ONE, "{"), {}, "stored as something damaged"),
    "two scales": ({f"{Q}.weight": FP8, f"{Q}.weight_scale_2": ONE}, {}, "come with weight_scale_2"),
    "bitsandbytes": ({f"{Q}.weight": INT8, f"{Q}.SCB": torch.ones(256)}, {}, "come with SCB"),
    "no scale": ({f"{Q}.weight": INT8}, {}, "integers without a scale"),
    "in the header": (
        {f"{Q}.weight": FP8, f"{Q}.weight_scale": ONE},
        {"_quantization_metadata": '{"format_version": "1.0", "layers": {"x": {"format": "mxfp8"}}}'},
        "stored as mxfp8",
    ),
    "no list in the header": ({f"{Q}.weight": FP8}, {"_quantization_metadata": "[1]"}, "something damaged"),
}


@pytest.mark.parametrize("what", UNREAD)
def test_scales_that_are_not_read_are_named(folder, state, what):
    parts, metadata, words = UNREAD[what]
    path = folder / "m.safetensors"
    save_file({**state, **parts}, path, metadata)
    with pytest.raises(CheckpointError, match=f"is a Wan transformer .*{words}") as error:
        loaded(path)
    assert "bf16" in error.value.fix


def test_fp8_behind_the_type_of_its_bytes(folder, state):
    value = state[f"{Q}.weight"].to(torch.float8_e4m3fn)
    parts = marked(value.view(torch.uint8), torch.tensor(0.5), '{"format": "float8_e4m3fn"}')
    save_file({**state, **parts}, folder / "m.safetensors")
    got = loaded(folder / "m.safetensors").state_dict()[f"{Q}.weight"]
    assert torch.equal(got, value.float() * 0.5)


@pytest.mark.parametrize("name", ["gguf_Q8_0", "fp8_scaled", "int8_rows"])
def test_a_packed_file_is_a_model_ready_for_films(folder, state, name):
    """As the command line opens it: found by its name, hashed as it lies there, held as plain numbers."""
    path = FORMS[name].write(folder, state)
    nothing: Any = object()
    bundle = load_model(path, text=nothing, vae=nothing, assume="self_forcing")
    assert len(bundle.fingerprint) == 64 and bundle.computes_in == torch.float32
    again = load_model(path, text=nothing, vae=nothing, dtype=torch.bfloat16, assume="self_forcing")
    assert again.fingerprint == bundle.fingerprint and again.computes_in == torch.bfloat16
    want = numbers_of(FORMS[name], state)
    assert all(torch.equal(value, want[key]) for key, value in bundle.model.state_dict().items())
