"""The text encoder as people have it: every published format, folders with spaces, and what is missing named."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gf_core.checkpoints import bundle as bundle_module
from gf_core.checkpoints.bundle import load_model
from gf_core.checkpoints.companions import open_text
from gf_core.config import ModelSpec
from gf_core.errors import CheckpointError
from gf_core.estimate.room import bundle_cost, file_cost
from gf_core.model.wan import WanModel
from gf_core.text.umt5 import UMT5Encoder
from gf_core.vae.builtin import BuiltinCodec, CodecConfig, save_codec

PROMPTS = ["a red fox walks", "the owl sits"]
WIDTH = 16


def as_fp8(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """ComfyUI's scaled fp8: matrices in eight bits with a scale each, the marker beside them."""
    out = {"scaled_fp8": torch.empty(0, dtype=torch.float8_e4m3fn)}
    for name, value in weights.items():
        if value.ndim < 2 or "relative_attention_bias" in name:
            out[name] = value.half()
            continue
        scale = value.abs().max() / 448
        out[name] = (value / scale).to(torch.float8_e4m3fn)
        out[name.removesuffix(".weight") + ".scale_weight"] = scale.reshape(1)
    return out


@pytest.fixture
def written(tmp_path, original, hugging_face, pieces):
    """Writes the tiny encoder as `kind` into a folder whose name has spaces; returns the file."""
    folder = tmp_path / "models of mine" / "text encoders"
    folder.mkdir(parents=True)

    def write(kind: str, tokenizer: bool = True) -> Path:
        inside = {"spiece_model": torch.frombuffer(bytearray(pieces), dtype=torch.uint8)}
        if tokenizer and kind == "original":
            (folder / "spiece.model").write_bytes(pieces)
        if kind == "original":
            path = folder / "models_t5_umt5-xxl-enc-bf16.pth"
            torch.save({name: value.bfloat16() for name, value in original.items()}, path)
            return path
        weights = {
            "comfyui fp16": lambda: {name: value.half() for name, value in hugging_face.items()},
            "comfyui fp8": lambda: as_fp8(hugging_face),
        }[kind]()
        path = folder / f"umt5_xxl_{kind.split()[1]}.safetensors"
        save_file(
            {**{n: v.clone() for n, v in weights.items()}, **(inside if tokenizer else {})},
            path,
            {"format": "pt"},
        )
        return path

    return write


KINDS = ("original", "comfyui fp16", "comfyui fp8")


@pytest.mark.parametrize("kind", KINDS)
def test_every_published_format_opens(written, original, kind):
    rows = open_text(written(kind), dtype=torch.float32).encode(PROMPTS)
    wanted = open_text(written("original"), dtype=torch.float32).encode(PROMPTS)
    for mine, other in zip(rows, wanted):
        assert mine.shape == other.shape and mine.shape[1] == WIDTH
        # bfloat16, half and scaled eight bits of the same weights, against each other
        assert torch.nn.functional.cosine_similarity(mine, other).min() > 0.99


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_tokenizer_is_named_with_where_to_put_it(written, kind):
    path = written(kind, tokenizer=False)
    with pytest.raises(CheckpointError, match="tokenizer is missing") as told:
        open_text(path)
    assert "spiece.model" in told.value.fix and str(path.parent) in told.value.fix


@pytest.fixture
def model(tmp_path, written):
    """A small causal model with the text encoder and a codec beside it."""
    torch.manual_seed(0)
    home = tmp_path / "models of mine"
    spec = ModelSpec(
        dim=256, ffn_dim=96, num_heads=2, num_layers=2, text_len=512, text_dim=WIDTH, freq_dim=32
    )
    weights = {f"model.{name}": value.detach() for name, value in WanModel(spec).state_dict().items()}
    torch.save({"generator_ema": weights}, home / "self_forcing_dmd.pt")
    written("comfyui fp16")
    small = CodecConfig(
        encoder_widths=(4, 4, 4), decoder_widths=(4, 4, 4), encoder_blocks=(1, 1, 1), decoder_blocks=(1, 1, 1)
    )
    (home / "vae").mkdir()
    save_codec(BuiltinCodec(small), home / "vae" / "wan_2.1_vae.safetensors")
    return home / "self_forcing_dmd.pt"


@pytest.fixture
def order(monkeypatch):
    """What is brought to memory, in order."""
    told, encode, build = [], UMT5Encoder.encode, bundle_module.build_network
    monkeypatch.setattr(
        UMT5Encoder, "encode", lambda self, prompts: (told.append("text"), encode(self, prompts))[1]
    )
    monkeypatch.setattr(
        bundle_module, "build_network", lambda *args, **more: (told.append("model"), build(*args, **more))[1]
    )
    return told


def opened(model: Path, written, **more):
    return load_model(
        model, text=written("comfyui fp16"), vae=model.parent / "vae" / "wan_2.1_vae.safetensors", **more
    )


def test_the_prompts_are_read_before_the_model_and_once(model, written, order):
    """Then the two large files are never in memory together, and rows that are kept need no encoder at all."""
    bundle = opened(model, written, prompts=PROMPTS)
    assert order == ["text", "model"]
    bundle.text.encode([*PROMPTS, PROMPTS[0]])
    assert order == ["text", "model"]
    opened(model, written, prompts=PROMPTS)
    assert order == ["text", "model", "model"]


def test_the_estimate_knows_what_is_to_be_read(model, written):
    bundle = opened(model, written)
    whole = bundle.text.encoder.weight_bytes
    assert bundle_cost(bundle).text == 0 and bundle_cost(bundle, PROMPTS).text == whole > 0
    bundle.text.encode(PROMPTS)
    assert bundle_cost(bundle, PROMPTS).text == 0 and bundle_cost(bundle, ["an owl"]).text == whole


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
def test_a_file_costs_what_it_costs_once_open(model, written, dtype):
    bundle = opened(model, written, dtype=dtype)
    parts = {"text": written("comfyui fp16"), "vae": model.parent / "vae" / "wan_2.1_vae.safetensors"}
    told, real = (
        file_cost(model, device=torch.device("cpu"), dtype=dtype, **parts),
        bundle_cost(bundle, PROMPTS),
    )
    for name in ("spec", "value_bytes", "decoder", "device", "text", "decoder_bytes"):
        assert getattr(told, name) == getattr(real, name), name
    codec = sum(weight.nbytes for weight in bundle.codec.state_dict().values())
    assert told.weight_bytes == real.weight_bytes + codec and not told.loaded
    assert told.fingerprint == real.fingerprint, "so that the speed of its films is found"


def test_what_is_not_there_is_not_counted_and_what_is_wrong_refused(model, tmp_path):
    alone = tmp_path / "alone" / "one" / "two" / "self_forcing_dmd.pt"
    alone.parent.mkdir(parents=True)
    alone.write_bytes(model.read_bytes())
    cost = file_cost(alone, device=torch.device("cpu"))
    assert cost.fingerprint == "", "a file that was never opened is not hashed for an estimate"
    assert (cost.decoder, cost.text, cost.decoder_bytes) == ("wan", 0, 4)
    for part in ("text", "vae"):
        with pytest.raises(CheckpointError):
            file_cost(alone, device=torch.device("cpu"), **{part: model})
