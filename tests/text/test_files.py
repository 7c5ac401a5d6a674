"""The text encoder as people have it: every published format, folders with spaces, and what is missing named."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import gguf
import pytest
import torch
from safetensors.torch import save_file
from sentencepiece import SentencePieceProcessor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dev.bench.forms import write_gguf
from gf_core.checkpoints import networks as networks_module
from gf_core.checkpoints.bundle import load_model
from gf_core.checkpoints.companions import describe_text, open_text, open_tokenizer
from gf_core.config import ModelSpec
from gf_core.errors import CheckpointError
from gf_core.estimate.room import bundle_cost, file_cost, parts_of
from gf_core.model.wan import WanModel
from gf_core.text.tokens import SentencePieceTokenizer
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
        save_file(weights | (inside if tokenizer else {}), path, {"format": "pt"})
        return path

    return write


KINDS = ("original", "comfyui fp16", "comfyui fp8")
LLAMA = {
    "shared": "token_embd", "encoder.final_layer_norm": "enc.output_norm", "SelfAttention.q": "attn_q",
    "SelfAttention.k": "attn_k", "SelfAttention.v": "attn_v", "SelfAttention.o": "attn_o",
    "SelfAttention.relative_attention_bias": "attn_rel_b", "0.layer_norm": "attn_norm", "1.layer_norm": "ffn_norm",
    "wi_0": "ffn_gate", "wi_1": "ffn_up", "wo": "ffn_down",
}  # fmt: skip
"""llama.cpp's names of T5's parts, by how Hugging Face's end."""


def llama_name(name: str) -> str:
    stem = name.removesuffix(".weight")
    theirs = next(theirs for ours, theirs in LLAMA.items() if stem.endswith(ours))
    block = f"enc.blk.{stem.split('.')[2]}." if ".block." in stem else ""
    return f"{block}{theirs}.weight"


def fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and content of each field of a protobuf message whose fields are all messages or texts."""

    def number(at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            value |= (message[at] & 127) << shift
            shift, at = shift + 7, at + 1
            if message[at - 1] < 128:
                return value, at

    at = 0
    while at < len(message):
        tag, at = number(at)
        if tag & 7 == 0:
            _, at = number(at)
            continue
        length, at = number(at)
        yield tag >> 3, message[at : at + length]
        at += length


def tokenizer_lists(pieces: bytes) -> Callable[[gguf.GGUFWriter], None]:
    """What llama.cpp's converter writes of a SentencePiece model."""
    model = SentencePieceProcessor(model_proto=pieces)
    normaliser = next(content for number, content in fields(pieces) if number == 3)
    charsmap = next(content for number, content in fields(normaliser) if number == 2)
    kinds = [2 if model.is_unknown(n) else 3 if model.is_control(n) else 1 for n in range(len(model))]

    def tell(writer: gguf.GGUFWriter) -> None:
        writer.add_tokenizer_model("t5")
        writer.add_token_list([model.id_to_piece(n) for n in range(len(model))])
        writer.add_token_scores([model.get_score(n) for n in range(len(model))])
        writer.add_token_types(kinds)
        writer.add_precompiled_charsmap(charsmap)

    return tell


@pytest.fixture
def packed(tmp_path, hugging_face, pieces):
    """Writes the tiny encoder as llama.cpp does."""

    def write(kind: str, **more) -> Path:
        named = {llama_name(name): value for name, value in hugging_face.items()}
        return write_gguf(
            tmp_path / "umt5-xxl-encoder.gguf", named, kind, architecture="t5encoder",
            which=lambda name, value: value.dim() == 2 and "rel_b" not in name, **more,
        )  # fmt: skip

    return write


def test_a_gguf_of_llama_cpp_opens_with_the_tokenizer_in_it(written, packed, pieces):
    path = packed("F16", tell=tokenizer_lists(pieces))
    rows = open_text(path, dtype=torch.float32).encode(PROMPTS)
    for mine, other in zip(rows, open_text(written("comfyui fp16"), dtype=torch.float32).encode(PROMPTS)):
        torch.testing.assert_close(mine, other, atol=2e-3, rtol=2e-3)  # norms are float32 here and fp16 there
    file, tensors = describe_text(path)
    mine, whole = open_tokenizer(file, tensors), SentencePieceTokenizer(pieces)
    for prompt in (*PROMPTS, "ﬁve  ＦＯＸＥＳ\tat night…", "Ünknown 木 signs", ""):
        assert mine.ids(prompt) == whole.ids(prompt)
    assert mine.eos == whole.eos == 1


def test_a_gguf_without_its_tokenizer_takes_the_one_beside_it(packed, pieces):
    path = packed("F16")
    with pytest.raises(CheckpointError, match="tokenizer is missing"):
        open_text(path)
    (path.parent / "spiece.model").write_bytes(pieces)
    assert open_text(path).encode(PROMPTS)


def test_comfyui_gets_a_gguf_as_it_knows_the_encoder(packed, pieces, hugging_face, of_pack):
    """Names, tokenizer, and one type of 16 bits: the host takes the norms' for all, which are float32 in the file."""
    read = of_pack("native.umt5").published_text
    tensors = read(packed("F16", tell=tokenizer_lists(pieces)))
    tokenizer = SentencePieceTokenizer(bytes(tensors.pop("spiece_model").numpy()))
    assert tokenizer.ids(PROMPTS[0]) == SentencePieceTokenizer(pieces).ids(PROMPTS[0])
    assert tensors.keys() == hugging_face.keys()
    for name, value in tensors.items():
        torch.testing.assert_close(value, hugging_face[name].bfloat16(), atol=0, rtol=2**-7)
    with pytest.raises(Exception, match="tokenizer is missing"):
        read(packed("F16"))
    other = write_gguf(
        packed("F16").with_name("t5.gguf"), {"enc.x": torch.ones(2, 2)}, "F16", architecture="t5"
    )
    with pytest.raises(Exception, match="not the UMT5"):
        read(other)


def test_load_model_offers_ggufs_of_the_encoder_and_takes_them_last(monkeypatch, tmp_path, of_pack):
    there = ["umt5-xxl-encoder-Q8_0.gguf", "umt5_xxl_fp16.safetensors", "notes.txt"]
    host = SimpleNamespace(
        folder_names_and_paths={"text_encoders": ([str(tmp_path)], set()), "vae": ([str(tmp_path)], set())},
        get_folder_paths=lambda folder: [str(tmp_path)],
        get_filename_list=lambda folder: [name for name in there if name.endswith(".safetensors")],
        recursive_search=lambda home, excluded: (there, {}),
    )
    monkeypatch.setitem(sys.modules, "folder_paths", host)
    files = of_pack("native.files")
    assert files.names("text_encoders") == there[1::-1] and files.names("vae") == there[1:2]
    assert files.find("text_encoders", files.TEXT_PATTERNS) == there[1]
    del there[1]
    assert files.find("text_encoders", files.TEXT_PATTERNS) == there[0]


@pytest.mark.parametrize("wrong", ["scores", "types", "kinds"])
def test_lists_of_a_tokenizer_that_do_not_go_together_are_refused(packed, wrong):
    def tell(writer):
        writer.add_token_list(["<pad>", "</s>", "a"])
        writer.add_token_scores([0.0, 0.0] if wrong == "scores" else [0.0, 0.0, -1.0])
        writer.add_token_types([3, 3, -7] if wrong == "types" else [3, 3, 1])
        if wrong == "kinds":
            writer.add_array("tokenizer.ggml.precompiled_charsmap", [1.5, 2.5])

    with pytest.raises(CheckpointError, match="tokenizer in the file's header is damaged"):
        open_text(packed("F16", tell=tell))


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
    told, encode, build = [], UMT5Encoder.encode, networks_module.build_network
    monkeypatch.setattr(
        UMT5Encoder, "encode", lambda self, prompts: (told.append("text"), encode(self, prompts))[1]
    )
    monkeypatch.setattr(
        networks_module,
        "build_network",
        lambda *args, **more: (told.append("model"), build(*args, **more))[1],
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
    told = file_cost(model, device=torch.device("cpu"), dtype=dtype, **parts)
    real = bundle_cost(bundle, PROMPTS)
    for name in ("spec", "value_bytes", "decoder", "device", "text", "decoder_bytes"):
        assert getattr(told, name) == getattr(real, name), name
    codec = sum(weight.nbytes for weight in bundle.codec.state_dict().values())
    assert told.weight_bytes == real.weight_bytes + codec and not told.loaded
    assert told.fingerprint == real.fingerprint, "so that the speed of its films is found"
    apart = file_cost(model, device=torch.device("cpu"), dtype=dtype, parts_on=torch.device("meta"), **parts)
    assert apart.weight_bytes == real.weight_bytes and apart.text == 0
    assert "decoder" in parts_of(told, bundle.recipe, 1) and "decoder" not in parts_of(
        apart, bundle.recipe, 1
    )


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
