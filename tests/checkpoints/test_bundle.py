"""Opening a whole bundle and describing files, with tiny stand-ins for every part."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dev.bench.forms import FORMS
from gf_core.checkpoints import bundle as bundle_module
from gf_core.checkpoints import networks as networks_module
from gf_core.checkpoints.bundle import load_model
from gf_core.checkpoints.companions import find, open_text
from gf_core.checkpoints.inspect import inspect_file
from gf_core.config import Fit, MemorySpec, SampleSpec, VideoSpec
from gf_core.errors import CheckpointError
from gf_core.estimate.room import bundle_cost, file_cost
from gf_core.files.fingerprint import combine
from gf_core.text.small import SmallTextEncoder, load_small_encoder, save_small_encoder
from gf_core.vae.builtin import FORMAT, BuiltinCodec, CodecConfig, load_codec, save_codec
from gf_core.vae.load import load_vae

from .published import Codec, Text

OWN = {
    "name": "tiny",
    "model": {"num_heads": 2, "text_len": 16},
    "sample": {"steps": [1000, 500], "shift": 3.0},
    "memory": {"anchors": 2, "recent": 3},
    "video": {"width": 96, "height": 64, "fps": 16},
}


PARTS = {"text": Text(), "vae": Codec()}


@pytest.fixture
def own_folder(tmp_path, state):
    """A folder written like the built-in model's."""
    folder = tmp_path / "own"
    folder.mkdir()
    save_file(state, folder / "model.safetensors", {"grounded": json.dumps(OWN)})
    save_small_encoder(SmallTextEncoder(["fox", "owl"], dim=8, text_dim=24), folder / "text.safetensors")
    small = CodecConfig(
        encoder_widths=(4, 4, 4), decoder_widths=(4, 4, 4), encoder_blocks=(1, 1, 1), decoder_blocks=(1, 1, 1)
    )
    save_codec(BuiltinCodec(small), folder / "codec.safetensors")
    return folder


def test_own_folder_opens_with_its_settings(own_folder, state):
    bundle = load_model(own_folder)
    assert bundle.name == "tiny" and bundle.spec.text_len == 16
    assert bundle.recipe.sample == SampleSpec(steps=(1000, 500), shift=3.0)
    assert (bundle.recipe.memory.anchors, bundle.recipe.memory.recent, bundle.recipe.memory.switch) == (
        2,
        3,
        "apr",
    )
    assert bundle.recipe.video == VideoSpec(width=96, height=64, fps=16)
    assert torch.equal(bundle.model.state_dict()["head.modulation"], state["head.modulation"])
    assert bundle.text.encode(["owl fox"])[0].shape == (3, 24)
    assert bundle.codec.channels == 16


def test_float8_of_the_file_and_float8_of_ours_are_told_apart(tmp_path, state):
    """In keys: a Take that was begun with weights that were rounded here does not go on with those of the file."""
    prints = []
    for name in ("fp8_rows", "int8_rows"):
        (folder := tmp_path / name).mkdir()
        path = FORMS[name].write(folder, {name: value.float() for name, value in state.items()})
        plain, fitted = (
            load_model(path, assume="self_forcing", fit=fit, **PARTS).fingerprint
            for fit in (Fit(), Fit(weights="fp8"))
        )
        prints.append([fitted == combine([plain, f"float8 {how}"]) for how in ("as stored", "rows")])
    assert prints == [[True, False], [False, True]]


def test_a_second_set_of_weights_writes_the_memory(tmp_path, state):
    """SGF+: named as the first set with `memory_` before one part; what it lacks it shares."""
    second = {}
    for name, value in state.items():
        if name.startswith(("time_", "text_", "patch_", "head.")):
            second[f"memory_{name}"] = value + 1
        elif name.endswith((".weight", ".modulation")):
            front, _, last = name.rpartition(".")
            second[f"{front}.memory_{last}"] = value + 1
    save_file(state | second, tmp_path / "m.safetensors", {"grounded": json.dumps(OWN)})
    bundle = load_model(tmp_path / "m.safetensors", **PARTS)
    assert bundle.writer is not None
    first, writing = bundle.model.state_dict(), bundle.writer.state_dict()
    for name, value in state.items():
        shared = name.startswith("blocks.") and name.endswith(".bias")
        assert torch.equal(first[name], value) and torch.equal(writing[name], value if shared else value + 1)
    director = bundle.sampler(bundle.recipe).director
    assert director.model is bundle.model and director.writer is bundle.writer
    one = load_model(_plain(tmp_path, state), **PARTS)
    assert one.writer is None and bundle_cost(bundle).weights == 2 * bundle_cost(one).weights
    files = [
        file_cost(tmp_path / name, device=torch.device("cpu"))
        for name in ("m.safetensors", "plain.safetensors")
    ]
    assert files[0].weight_bytes - files[1].weight_bytes == bundle_cost(one).weights
    assert one.fingerprint != bundle.fingerprint


def _plain(folder, state):
    path = folder / "plain.safetensors"
    save_file(state, path, {"grounded": json.dumps(OWN)})
    return path


def test_builtin_is_that_folder_and_says_when_it_is_incomplete(own_folder, monkeypatch):
    monkeypatch.setattr(networks_module, "BUILTIN_FOLDER", own_folder)
    assert load_model("builtin").name == "tiny"
    (own_folder / "text.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"text\.safetensors missing"):
        load_model()


def test_settings_of_a_newer_version_are_refused(tmp_path, state):
    header = {"grounded": json.dumps({**OWN, "sample": {"steps": [1000], "guidance": 3}})}
    save_file(state, tmp_path / "m.safetensors", header)
    with pytest.raises(CheckpointError, match="guidance"):
        load_model(tmp_path / "m.safetensors", **PARTS)


@pytest.mark.parametrize(
    "change",
    [
        {"sample": {"steps": "abc"}},
        {"sample": {"steps": []}},
        {"sample": {"shift": 0}},
        {"sample": 5},
        {"memory": {"anchors": "3"}},
        {"memory": {"anchors": -3}},
        {"memory": {"chunk": 0}},
        {"memory": {"bank": 3, "bank_policy": "means"}},
        {"memory": {"bank_every": 0, "bank": 4}},
        {"memory": {"rolling": 5}},
        {"memory": {"refresh": True, "bank": 2}},
        {"memory": {"positions": "sideways"}},
        {"video": {"width": -5}},
        {"video": {"fps": "x"}},
    ],
)
def test_settings_that_cannot_be_run_are_refused_in_words(tmp_path, state, change):
    save_file(state, tmp_path / "m.safetensors", {"grounded": json.dumps({**OWN, **change})})
    with pytest.raises(CheckpointError, match="settings in its header"):
        load_model(tmp_path / "m.safetensors", **PARTS)


@pytest.mark.parametrize("config", ["{", "[]", '{"x": 1}', '{"channels": "a"}', "[" * 100_000, None])
def test_damaged_companions_are_refused_in_words(own_folder, config):
    for name, load, header in (
        ("codec.safetensors", load_codec, {"format": FORMAT, "config": config}),
        ("text.safetensors", load_small_encoder, {"words": config, "settings": "{}"}),
    ):
        tensors = load_file(own_folder / name)
        save_file(tensors, own_folder / name, {key: text for key, text in header.items() if text is not None})
        with pytest.raises(CheckpointError):
            load(own_folder / name)
        (own_folder / name).write_bytes(b"junk")
        with pytest.raises(CheckpointError):
            load(own_folder / name)


def test_published_file_takes_the_catalogues_settings(tmp_path, wrap):
    torch.save(wrap("fsdp"), tmp_path / "ema_model.pt")
    bundle = load_model(tmp_path / "ema_model.pt", **PARTS, dtype=torch.bfloat16)
    assert bundle.name == "ema_model.pt" and (bundle.recipe.memory.anchors, bundle.recipe.memory.recent) == (
        1,
        2,
    )
    assert bundle.recipe.sample == SampleSpec() and bundle.recipe.video == VideoSpec()
    assert next(bundle.model.parameters()).dtype == torch.bfloat16


def test_framewise_weights_get_chunks_of_one(tmp_path, wrap):
    (tmp_path / "framewise").mkdir()
    torch.save(wrap("generator_ema"), tmp_path / "framewise" / "causal_forcing.pt")
    assert load_model(tmp_path / "framewise" / "causal_forcing.pt", **PARTS).recipe.memory == MemorySpec(
        chunk=1
    )


def test_plain_wan_is_refused_before_anything_is_loaded(tmp_path, state):
    save_file(state, tmp_path / "wan2.1_t2v_1.3B.safetensors")
    with pytest.raises(CheckpointError, match="causal"):
        load_model(tmp_path / "wan2.1_t2v_1.3B.safetensors")
    bundle = load_model(tmp_path / "wan2.1_t2v_1.3B.safetensors", **PARTS, assume="self_forcing")
    assert bundle.recipe.sample == SampleSpec()


@pytest.mark.parametrize("form", ["pt", "safetensors"])
def test_longlive_needs_its_lora(tmp_path, wrap, state, form):
    path = tmp_path / "longlive_base.pt"
    torch.save({"generator": wrap("model_prefix")}, path)
    with pytest.raises(CheckpointError, match="first half") as error:
        load_model(path, **PARTS)
    assert "lora.pt" in error.value.fix
    down, up = torch.ones(2, 256), torch.ones(256, 2)
    names = "base_model.model.blocks.0.self_attn.q.lora_{}.weight"
    lora = {names.format("A"): down, names.format("B"): up}
    if form == "pt":
        torch.save({"generator_lora": lora}, tmp_path / "lora.pt")
    else:
        save_file(lora, tmp_path / "lora.safetensors")

    def merged(*loras):
        found = load_model(path, **PARTS, loras=loras).model.state_dict()
        return (found[name] - state[name]).mean().item()

    name = "blocks.0.self_attn.q.weight"
    assert merged() == pytest.approx(2)
    save_file(
        lora, tmp_path / "style.safetensors"
    )  # another one is merged beside it, and does not stand for it
    assert merged((tmp_path / "style.safetensors", 0.5)) == pytest.approx(3)
    (tmp_path / "elsewhere").mkdir()
    (own,) = tmp_path.glob("lora.*")
    elsewhere = own.rename(tmp_path / "elsewhere" / own.name)
    assert merged((elsewhere, 0.75)) == pytest.approx(1.5)
    with pytest.raises(CheckpointError, match="first half"):
        merged((tmp_path / "style.safetensors", 0.5))


def test_fingerprint_follows_weights_and_loras_not_names(tmp_path, state):
    lora = {
        "blocks.0.ffn.0.lora_A.weight": torch.ones(1, 256),
        "blocks.0.ffn.0.lora_B.weight": torch.ones(96, 1),
    }
    save_file(lora, tmp_path / "l.safetensors")
    save_file(state, tmp_path / "self_forcing_dmd.safetensors")
    torch.save({"generator_ema": state}, tmp_path / "renamed.pt")

    def mark(name, **options):
        return load_model(tmp_path / name, **PARTS, **options).fingerprint

    first = mark("self_forcing_dmd.safetensors")
    assert mark("renamed.pt") == first
    half = mark("renamed.pt", loras=[(tmp_path / "l.safetensors", 0.5)])
    assert half != first and half != mark("renamed.pt", loras=[(tmp_path / "l.safetensors", 1.0)])
    folder = tmp_path / "peft"
    folder.mkdir()
    save_file(lora, folder / "adapter_model.safetensors")
    scales = ((4, {}), (2, {}), (4, {"ffn.0": 2}), (4, {"ffn.0": 3}))
    found = set()
    for alpha, pattern in scales:
        said = json.dumps({"peft_type": "LORA", "lora_alpha": alpha, "alpha_pattern": pattern})
        (folder / "adapter_config.json").write_text(said)
        found.add(mark("renamed.pt", loras=[(folder, 1.0)]))
    assert len(found) == len(scales), "what a folder of PEFT says of the scale"


def test_missing_companions_are_named_with_source_and_place(tmp_path, wrap):
    torch.save(wrap("generator_ema"), tmp_path / "self_forcing_dmd.pt")
    with pytest.raises(CheckpointError, match="text encoder") as error:
        load_model(tmp_path / "self_forcing_dmd.pt", vae=Codec())
    assert "models_t5_umt5-xxl-enc-bf16.pth" in error.value.fix and str(tmp_path) in error.value.fix
    with pytest.raises(CheckpointError, match="no VAE") as error:
        load_model(tmp_path / "self_forcing_dmd.pt", text=Text())
    assert "Wan2.1_VAE.pth" in error.value.fix


def test_of_two_encoders_the_one_that_loses_less_is_taken(tmp_path):
    files = ("umt5-xxl-encoder-Q8_0.gguf", "umt5_xxl_fp16.safetensors", "models_t5_umt5-xxl-enc-bf16.pth")
    for name in files:
        (tmp_path / name).touch()
        assert find("text", tmp_path / "model.pt").name == name, "each new one is preferred"


def test_both_parts_are_opened_where_they_are_wanted(tmp_path, wrap, monkeypatch):
    placed = []
    monkeypatch.setattr(bundle_module, "open_text", lambda path, device: placed.append(device) or Text())
    monkeypatch.setattr(bundle_module, "load_vae", lambda path, device: placed.append(device) or Codec())
    torch.save(wrap("generator_ema"), tmp_path / "self_forcing_dmd.pt")
    for name in ("umt5_xxl_fp16.safetensors", "Wan2.1_VAE.pth"):
        (tmp_path / name).touch()
    for asked, device in ((None, "cpu"), (torch.device("meta"), torch.device("meta"))):
        placed.clear()
        bundle = load_model(tmp_path / "self_forcing_dmd.pt", parts_on=asked)
        assert placed == [device, device] and bundle.decodes_on.type == str(device)


def test_wrong_companion_is_named(tmp_path, wrap):
    torch.save(wrap("generator_ema"), tmp_path / "self_forcing_dmd.pt")
    save_file({"conv.weight": torch.zeros(1)}, tmp_path / "umt5_xxl_fp16.safetensors")
    with pytest.raises(CheckpointError, match="not the UMT5"):
        load_model(tmp_path / "self_forcing_dmd.pt", vae=Codec())


def test_report_of_a_usable_file(tmp_path, wrap):
    torch.save(wrap("generator_ema"), tmp_path / "self_forcing_dmd.pt")
    report = inspect_file(tmp_path / "self_forcing_dmd.pt")
    assert report.usable
    text = str(report)
    for words in (
        "Self Forcing 1.3B", "2 heads", "under generator_ema (also there: generator)", "1000, 750, 500, 250",
        "shift 5", "3 anchors + 6 recent + 3 current = 12", "0.75 s", "float32, original names behind model.",
        "missing: put models_t5",
    ):  # fmt: skip
        assert words in text
    assert len({line.index("  ") for line in report.lines if line.startswith("text encoder")}) == 1


def test_report_of_an_unusable_file_says_why(tmp_path, state, own_folder):
    save_file(state, tmp_path / "m.safetensors")
    report = inspect_file(tmp_path / "m.safetensors")
    assert not report.usable and "nothing says that it is causal" in str(report)
    vae = inspect_file(own_folder / "codec.safetensors")
    assert not vae.usable
    assert inspect_file(own_folder / "model.safetensors").usable


def small_umt5() -> dict[str, torch.Tensor]:
    """Random UMT5 weights of width 24 under Hugging Face names."""
    torch.manual_seed(3)
    weights = {"shared.weight": torch.randn(64, 24), "encoder.final_layer_norm.weight": torch.ones(24)}
    for n in range(2):
        attention = f"encoder.block.{n}.layer.0.SelfAttention"
        hidden = f"encoder.block.{n}.layer.1.DenseReluDense"
        weights |= {f"{attention}.{c}.weight": torch.randn(16, 24) for c in "qkv"}
        weights |= {
            f"{attention}.o.weight": torch.randn(24, 16),
            f"{attention}.relative_attention_bias.weight": torch.randn(32, 2),
            f"encoder.block.{n}.layer.0.layer_norm.weight": torch.ones(24),
            f"encoder.block.{n}.layer.1.layer_norm.weight": torch.ones(24),
            f"{hidden}.wi_0.weight": torch.randn(32, 24),
            f"{hidden}.wi_1.weight": torch.randn(32, 24),
            f"{hidden}.wo.weight": torch.randn(24, 32),
        }
    return weights


def test_diffusers_folder_brings_its_text_encoder(tmp_path, wrap, pieces):
    folder = tmp_path / "SFWan2.1-T2V-1.3B-Diffusers"
    for name in ("transformer", "text_encoder", "tokenizer"):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text('{"num_attention_heads": 2}')
    save_file(wrap("diffusers"), folder / "transformer" / "diffusion_pytorch_model.safetensors")
    save_file(small_umt5(), folder / "text_encoder" / "model.safetensors")
    (folder / "tokenizer" / "spiece.model").write_bytes(pieces)
    bundle = load_model(folder, vae=Codec())
    rows = bundle.text.encode(["a red fox", "a red fox"])
    assert rows[0].shape[1] == 24 and torch.equal(rows[0], rows[1])


def test_comfyui_text_file_carries_its_tokenizer(tmp_path, wrap, pieces):
    for name in ("diffusion_models", "text_encoders"):
        (tmp_path / name).mkdir()
    model = tmp_path / "diffusion_models" / "self_forcing_dmd.safetensors"
    save_file(wrap("comfyui"), model)
    inside = {**small_umt5(), "spiece_model": torch.frombuffer(bytearray(pieces), dtype=torch.uint8)}
    save_file(inside, tmp_path / "text_encoders" / "umt5_xxl_fp16.safetensors")
    assert load_model(model, vae=Codec()).text.encode(["the owl"])[0].shape[1] == 24
    save_file(small_umt5(), tmp_path / "text_encoders" / "umt5_xxl_fp16.safetensors")
    with pytest.raises(CheckpointError, match="tokenizer is missing"):
        load_model(model, vae=Codec())


@pytest.mark.parametrize("form", ["safetensors", "pt"])
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_a_download_of_full_length_whose_rest_is_zeros_is_refused(tmp_path, state, form, share):
    """Its header and its size are right; what a downloader has not written yet is zeros."""
    path = tmp_path / f"self_forcing_dmd.{form}"
    save_file(state, path) if form == "safetensors" else torch.save({"generator_ema": state}, path)
    whole = path.read_bytes()
    begun = int(len(whole) * share)
    # The table of an archive stands at its end, and comes with the last piece.
    tail = whole[-20_000:] if form == "pt" else b""
    path.write_bytes(whole[:begun] + bytes(len(whole) - begun - len(tail)) + tail)
    said = r"not whole: \d+ of \d+ large weights? holds? nothing but zeros"
    with pytest.raises(CheckpointError, match=said):
        load_model(path, **PARTS)
    assert re.search(said, str(inspect_file(path))) and not inspect_file(path).usable


def test_zeros_in_a_vae_or_text_encoder_are_refused(tmp_path):
    zeros = {name: torch.zeros_like(value) for name, value in small_umt5().items()}
    zeros["encoder.block.0.layer.1.DenseReluDense.wo.weight"] = torch.zeros(24, 2000)
    save_file(zeros, tmp_path / "umt5.safetensors")
    with pytest.raises(CheckpointError, match="1 of 1 large weight"):
        open_text(tmp_path / "umt5.safetensors")
    codec = {"encoder.0.weight": torch.zeros(64, 3, 3, 3), "decoder.1.weight": torch.zeros(256, 16, 3, 3)}
    save_file(codec, tmp_path / "taew2_1.safetensors")
    with pytest.raises(CheckpointError, match="1 of 1 large weight"):
        load_vae(tmp_path / "taew2_1.safetensors")


def test_report_of_a_half_says_that_its_lora_is_missing(tmp_path, wrap):
    path = tmp_path / "longlive_base.pt"
    torch.save({"generator": wrap("model_prefix")}, path)
    report = inspect_file(path)
    assert not report.usable and "first half of LongLive" in str(report) and "lora.pt" in str(report)
    names = "base_model.model.blocks.0.self_attn.q.lora_{}.weight"
    halves = {names.format("A"): torch.ones(2, 256), names.format("B"): torch.ones(256, 2)}
    torch.save({"generator_lora": halves}, tmp_path / "lora.pt")
    report = inspect_file(path)
    assert report.usable and dict(report.rows)["LoRA"] == "lora.pt"
    assert "in 2 tensors" in dict(inspect_file(tmp_path / "lora.pt").rows)["what"]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("Efficient-Large-Model/LongLive-1.3B", "models/longlive_base.pt and lora.pt"),
        (
            "https://huggingface.co/gdhe17/Self-Forcing/resolve/main/checkpoints/self_forcing_dmd.pt",
            "self_forcing_dmd.pt",
        ),
        ("zhuhz22/Causal-Forcing/framewise/causal_forcing.pt", "causal_forcing.pt"),
    ],
)
def test_published_names_are_answered_with_what_to_fetch(name, file):
    with pytest.raises(CheckpointError) as error:
        inspect_file(name)
    assert file in error.value.fix and "https://huggingface.co/" in error.value.fix


def test_what_a_file_says_of_itself_does_not_steer_the_terminal(tmp_path):
    save_file({f"blocks.0.\x1b[2J{n}": torch.zeros(1) for n in range(2)}, tmp_path / "m.safetensors")
    assert "\x1b" not in str(inspect_file(tmp_path / "m.safetensors"))
    with pytest.raises(CheckpointError) as error:
        torch.save({f"\x1b[2J{n}": {"a": torch.zeros(1)} for n in range(2)}, tmp_path / "m.pt")
        inspect_file(tmp_path / "m.pt")
    assert "\x1b" not in str(error.value)
