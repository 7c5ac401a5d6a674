"""The text encoder as published, opened by the loader: the host's rows against the engine's own."""

import io
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))

import comfy.sd
import tiny
import torch
from grounded_forcing.gf_core.files.lazy import LazyTensor
from grounded_forcing.gf_core.text.tokens import SentencePieceTokenizer
from grounded_forcing.gf_core.text.umt5 import UMT5Encoder
from grounded_forcing.nodes.native import loader
from sentencepiece import SentencePieceTrainer

VOCABULARY, WIDTH, HEADS, HIDDEN, LAYERS = 60, 32, 2, 24, 2
PROMPT = "a red fox walks in the snow"
KNOWN_BY = "encoder.block.23.layer.1.DenseReluDense.wi_1.weight"
"""The host looks at this tensor's sides (0.33: the first, older ones: the last) to tell which T5 it has."""


def pieces():
    out = io.BytesIO()
    words = ["a red fox walks in the snow at night", "the owl sits on a tree", "then it looks up and waits"]
    SentencePieceTrainer.train(
        sentence_iterator=iter(words * 20), model_writer=out, vocab_size=VOCABULARY, pad_id=0, eos_id=1, unk_id=2,
        bos_id=-1, hard_vocab_limit=False, num_threads=1, minloglevel=2,
    )  # fmt: skip
    return out.getvalue()


def original():
    """Weights of a UMT5 of two layers under Wan's own names."""
    torch.manual_seed(0)
    out = {"token_embedding.weight": torch.randn(VOCABULARY, WIDTH), "norm.weight": torch.rand(WIDTH) + 0.5}
    for n in range(LAYERS):
        block = {
            "norm1": torch.rand(WIDTH) + 0.5, "norm2": torch.rand(WIDTH) + 0.5,
            **{f"attn.{name}": torch.randn(WIDTH, WIDTH) * 0.2 for name in "qkvo"},
            "ffn.gate.0": torch.randn(HIDDEN, WIDTH) * 0.2, "ffn.fc1": torch.randn(HIDDEN, WIDTH) * 0.2,
            "ffn.fc2": torch.randn(WIDTH, HIDDEN) * 0.2, "pos_embedding.embedding": torch.randn(32, HEADS) * 0.2,
        }  # fmt: skip
        out |= {f"blocks.{n}.{name}.weight": value for name, value in block.items()}
    return out


@torch.inference_mode()
def main():
    weights, vocabulary = original(), pieces()
    folder = Path.cwd() / "models" / "text_encoders"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "models_t5_umt5-xxl-enc-bf16.pth"
    torch.save(weights, path)
    facts = {"no tokenizer": tiny.refused(lambda: loader._load_text("auto"))}
    beside = folder / "google" / "umt5-xxl"
    beside.mkdir(parents=True)
    (beside / "spiece.model").write_bytes(vocabulary)

    real = comfy.sd.load_text_encoder_state_dicts
    config = {
        "d_ff": HIDDEN, "d_kv": WIDTH // HEADS, "d_model": WIDTH, "dense_act_fn": "gelu_pytorch_tanh",
        "is_gated_act": True, "layer_norm_epsilon": 1e-6, "model_type": "umt5", "num_heads": HEADS,
        "num_layers": LAYERS, "pad_token_id": 0, "eos_token_id": 1, "relative_attention_num_buckets": 32,
        "vocab_size": VOCABULARY,
    }  # fmt: skip

    def small(state_dicts, **options):
        """As the host does, but for two layers instead of 24."""
        facts["names"] = sorted(state_dicts[0])[:2]
        state_dicts[0][KNOWN_BY] = torch.zeros(1, 1).expand(10240, 4096)
        return real(
            state_dicts, **options, model_options={"umt5xxl_model_config": config, "dtype": torch.float32}
        )

    comfy.sd.load_text_encoder_state_dicts = small
    clip, facts["file"] = loader._load_text("auto")
    rows = clip.encode_from_tokens_scheduled(clip.tokenize(PROMPT))[0][0][0]
    lazy = {name: LazyTensor(value.dtype, tuple(value.shape), value.clone) for name, value in weights.items()}
    own = UMT5Encoder(lazy, SentencePieceTokenizer(vocabulary), "tiny", dtype=torch.float32)
    [wanted] = own.encode([PROMPT])
    facts["rows"] = len(wanted)
    facts["gap"] = tiny.gap(rows[: len(wanted)].float().cpu(), wanted)
    facts["padding"] = float(rows[len(wanted) :].abs().max())
    tiny.report(**facts)


main()
