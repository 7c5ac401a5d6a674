"""UMT5: naming schemes load equally, rows agree with a plain float64 computation, prompts end and are cut rightly."""

import logging
import math
import weakref
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from gf_core.checkpoints.model_bundle import ModelBundle
from gf_core.errors import CheckpointError, ResourceError
from gf_core.files.lazy import LazyTensor
from gf_core.text.store import StoredEncoder
from gf_core.text.tokens import SentencePieceTokenizer
from gf_core.text.umt5 import UMT5Encoder, build, sizes_of, to_hf_name
from gf_core.train.recipes.prompted import Texts

from .conftest import SIZES, lazy

PROMPTS = ["a red fox walks in the snow", "", "the owl"]


@pytest.fixture
def tokenizer(pieces):
    return SentencePieceTokenizer(pieces)


def encoder(weights, tokenizer, **options):
    return UMT5Encoder(lazy(weights), tokenizer, "tiny", dtype=torch.float32, **options)


def test_original_hf_and_comfyui_names_give_equal_rows(original, hugging_face, tokenizer):
    comfyui = {**hugging_face, "spiece_model": torch.zeros(9, dtype=torch.uint8)}
    tied = {**hugging_face, "encoder.embed_tokens.weight": hugging_face["shared.weight"]}
    first = encoder(original, tokenizer).encode(PROMPTS)
    for weights in (hugging_face, comfyui, tied):
        for mine, other in zip(first, encoder(weights, tokenizer).encode(PROMPTS)):
            assert torch.equal(mine, other)


def bucket(distance: int, buckets: int = 32, furthest: int = 128) -> int:
    """T5's bidirectional bucket of (key - query), from its definition."""
    half = buckets // 2
    base, n = (half if distance > 0 else 0), abs(distance)
    exact = half // 2
    if n < exact:
        return base + n
    log = exact + int(math.log(n / exact) / math.log(furthest / exact) * (half - exact))
    return base + min(log, half - 1)


def reference(weights, ids: list[int]) -> torch.Tensor:
    """The encoder of Wan's paper code in plain float64: pre-norm, no scaling, own bias per layer, gated tanh GELU."""
    w = {name: value.double() for name, value in weights.items()}

    def norm(x, weight):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * weight

    x = w["token_embedding.weight"][ids]
    for n in range(2):
        p = f"blocks.{n}."
        y = norm(x, w[p + "norm1.weight"])
        q, k, v = ((y @ w[f"{p}attn.{c}.weight"].T).unflatten(-1, (2, 8)).transpose(0, 1) for c in "qkv")
        table = w[p + "pos_embedding.embedding.weight"]
        bias = torch.stack(
            [torch.stack([table[bucket(j - i)] for j in range(len(ids))]) for i in range(len(ids))]
        )
        scores = (q @ k.transpose(-1, -2) + bias.permute(2, 0, 1)).softmax(-1)
        x = x + (scores @ v).transpose(0, 1).flatten(1) @ w[p + "attn.o.weight"].T
        y = norm(x, w[p + "norm2.weight"])
        gate = torch.nn.functional.gelu(y @ w[p + "ffn.gate.0.weight"].T, approximate="tanh")
        x = x + ((y @ w[p + "ffn.fc1.weight"].T) * gate) @ w[p + "ffn.fc2.weight"].T
    return norm(x, w["norm.weight"])


def test_rows_equal_a_plain_computation(original, tokenizer):
    model = encoder(original, tokenizer)
    for prompt, rows in zip(PROMPTS, model.encode(PROMPTS)):
        expected = reference(original, model.token_ids(prompt))
        assert rows.shape == expected.shape and rows.dtype == torch.float32
        torch.testing.assert_close(rows.double(), expected, atol=2e-5, rtol=2e-5)


def test_prompts_end_with_the_end_mark(original, tokenizer):
    model = encoder(original, tokenizer)
    assert model.token_ids("") == [1]
    assert model.token_ids("the owl")[-1] == 1 and 1 not in model.token_ids("the owl")[:-1]
    assert model.token_ids("  the \n owl ") == model.token_ids("the owl")


def test_long_prompts_are_cut_keeping_the_end_mark(original, tokenizer, caplog):
    model = encoder(original, tokenizer, max_rows=6)
    with caplog.at_level(logging.WARNING, "grounded"):
        ids = model.token_ids("a red fox walks in the snow at night")
    assert len(ids) == 6 and ids[-1] == 1 and "cut to 5" in caplog.text
    assert model.encode(["a red fox walks in the snow at night"])[0].shape == (6, 16)


@pytest.mark.parametrize(("words", "rows"), [(4, 5), (5, 6), (6, 6), (7, 6)])
def test_a_prompt_of_just_the_limit_is_whole_and_one_more_is_cut(original, tokenizer, caplog, words, rows):
    """The end mark counts: of 6 rows 5 are the prompt's. One row too many and the video model refuses the film."""
    whole = encoder(original, tokenizer).token_ids("a red fox walks in the snow at night")[:words]
    fixed = type("Fixed", (), {"eos": tokenizer.eos, "ids": lambda self, text: list(whole)})()
    model = encoder(original, fixed, max_rows=6)
    with caplog.at_level(logging.WARNING, "grounded"):
        ids = model.token_ids("a prompt")
    assert len(whole) == words and ids == [*whole[: rows - 1], tokenizer.eos] and len(ids) == rows
    assert ("cut to 5" in caplog.text) == (words > 5)
    assert model.encode(["a prompt"])[0].shape == (rows, 16)


@pytest.mark.parametrize("keep, readings", [(False, 2), (True, 1)])
def test_weights_are_read_late_and_let_go(original, tokenizer, keep, readings):
    reads = []
    model = UMT5Encoder(lazy(original, reads), tokenizer, "tiny", dtype=torch.float32)
    model.keep = keep
    assert not reads
    model.encode(["a", "b"])
    assert sorted(reads) == sorted(original)
    model.encode(["a"])
    assert len(reads) == readings * len(original)


def test_a_training_reads_the_weights_once(original, tokenizer):
    reads = []
    stored = StoredEncoder(UMT5Encoder(lazy(original, reads), tokenizer, "tiny", dtype=torch.float32))
    bundle = cast(ModelBundle, SimpleNamespace(text=stored, spec=SimpleNamespace(text_dim=SIZES["width"])))
    texts = Texts(bundle, None, small=True)
    for prompt in ("a", "b"):
        assert texts([prompt]).shape[2] == SIZES["width"]
    assert len(reads) == len(original)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_no_tensor_waits_as_it_was_read(original, dtype):
    """One at a time is read and placed: what a file unpacks to never lies in memory beside the encoder."""
    waiting, most = [], []

    def reading(value):
        def load():
            read = value.double()  # wider than what is kept
            waiting.append(weakref.ref(read))
            most.append(sum(ref() is not None for ref in waiting))
            return read

        return LazyTensor(value.dtype, tuple(value.shape), load)

    build({name: reading(value) for name, value in original.items()}, dtype)
    assert len(most) == len(original) and max(most) <= 2


@pytest.mark.gpu
def test_the_card_has_its_room_back(original, tokenizer):
    wide = {**original, "token_embedding.weight": torch.randn(10**6, 16)}
    encoder(original, tokenizer, device="cuda").encode(PROMPTS)  # what kernels take of the card, they keep
    free = torch.cuda.mem_get_info()[0]
    encoder(wide, tokenizer, device="cuda").encode(PROMPTS)
    assert free - torch.cuda.mem_get_info()[0] < 40e6 < sum(value.nbytes for value in wide.values())


def test_incomplete_and_foreign_weights_are_refused_unread(original):
    reads = []
    lacking = {name: value for name, value in original.items() if name != "blocks.1.attn.v.weight"}
    odd = {**original, "blocks.1.attn.v.weight": torch.zeros(3, 3)}
    for weights, told in (
        (lacking, r"1 missing .*block\.1\.layer\.0\.SelfAttention\.v"),
        ({**original, "lm_head.weight": torch.zeros(1)}, "1 unexpected"),
        ({"shared.weight": torch.zeros(2, 2)}, "no tensor"),
        (odd, r"1 of another shape .*block\.1\.layer\.0\.SelfAttention\.v"),
    ):
        with pytest.raises(CheckpointError, match=told):
            build(lazy(weights, reads), torch.float32)
    assert not reads


def test_an_encoder_that_does_not_fit_is_refused_unread(original, tokenizer, monkeypatch):
    reads = []
    model = UMT5Encoder(lazy(original, reads), tokenizer, "tiny", dtype=torch.float32)
    assert model.weight_bytes == sum(value.numel() * 4 for value in original.values())
    monkeypatch.setattr("gf_core.devices.free_bytes", lambda device: model.weight_bytes - 1)
    with pytest.raises(ResourceError, match=r"the text encoder needs .* free"):
        model.encode(["a"])
    assert not reads


def test_published_size_is_read_from_shapes():
    shapes = {
        "shared.weight": (256384, 4096),
        "encoder.block.0.layer.0.SelfAttention.q.weight": (4096, 4096),
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": (32, 64),
        "encoder.block.0.layer.1.DenseReluDense.wi_0.weight": (10240, 4096),
        **{f"encoder.block.{n}.layer.1.layer_norm.weight": (4096,) for n in range(24)},
    }
    sizes = sizes_of(shapes)
    wanted = {
        "vocab_size": 256384,
        "d_model": 4096,
        "d_kv": 64,
        "d_ff": 10240,
        "num_layers": 24,
        "num_heads": 64,
    }
    assert {name: sizes[name] for name in wanted} == wanted


def test_names():
    assert to_hf_name("blocks.3.ffn.fc1.weight") == "encoder.block.3.layer.1.DenseReluDense.wi_1.weight"
    assert to_hf_name("shared.weight") == "shared.weight"
