"""UMT5, the text encoder of Wan, from its original weights, Hugging Face's or ComfyUI's, on transformers'
module.

Each prompt runs alone and unpadded, so its rows are those of a padded and masked batch; rows end with the
end mark. Padding to 512 zero rows is the video model's business (`model.layers.embed_text`). Source:
Wan-Video/Wan2.1 t5.py.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..devices import require_memory
from ..errors import HEADLESS, CheckpointError, installed
from ..files.lazy import LazyTensor, check_shapes
from ..foreign import numbered
from ..words import exact_size
from .clean import clean_prompt
from .tokens import Tokenizer

MAX_ROWS = 512
"""Tokens of a prompt with its end mark; what is longer is cut."""
TOKENIZER_KEY = "spiece_model"
"""Tensor of ComfyUI's files that holds the SentencePiece model."""
_TIED = "encoder.embed_tokens.weight"
"""The embedding's second name, which is `shared.weight` too."""

log = logging.getLogger("grounded")
_MODULES = (
    ("norm1", "attn_norm", "layer.0.layer_norm"),
    ("attn.q", "attn_q", "layer.0.SelfAttention.q"),
    ("attn.k", "attn_k", "layer.0.SelfAttention.k"),
    ("attn.v", "attn_v", "layer.0.SelfAttention.v"),
    ("attn.o", "attn_o", "layer.0.SelfAttention.o"),
    ("pos_embedding.embedding", "attn_rel_b", "layer.0.SelfAttention.relative_attention_bias"),
    ("norm2", "ffn_norm", "layer.1.layer_norm"),
    ("ffn.gate.0", "ffn_gate", "layer.1.DenseReluDense.wi_0"),
    ("ffn.fc1", "ffn_up", "layer.1.DenseReluDense.wi_1"),
    ("ffn.fc2", "ffn_down", "layer.1.DenseReluDense.wo"),
)
"""Parts of a block: Wan's names, llama.cpp's (GGUF files of encoders), and those of Hugging Face."""
_PARTS = {name: theirs for *names, theirs in _MODULES for name in names}
_WHOLE = {
    **dict.fromkeys(("token_embedding.weight", "token_embd.weight"), "shared.weight"),
    **dict.fromkeys(("norm.weight", "enc.output_norm.weight"), "encoder.final_layer_norm.weight"),
}
_BLOCK = re.compile(r"(?:blocks|enc\.blk)\.(\d+)\.(.+)\.weight")


def to_hf_name(name: str) -> str:
    """Hugging Face's name of an original, llama.cpp or already Hugging Face tensor name."""
    name = name.removeprefix("text_encoder.").removeprefix("transformer.")
    block = _BLOCK.fullmatch(name)
    module = _PARTS.get(block[2]) if block else None
    if block and module:
        return f"encoder.block.{block[1]}.{module}.weight"
    return _WHOLE.get(name, name)


def sizes_of(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Settings of transformers' `UMT5Config` read from tensor shapes under Hugging Face names."""
    attention = "encoder.block.0.layer.0.SelfAttention"
    fix = "use models_t5_umt5-xxl-enc-bf16.pth (Wan-AI) or umt5_xxl_fp16.safetensors (Comfy-Org)."
    try:
        buckets, heads = shapes[f"{attention}.relative_attention_bias.weight"]
        vocabulary, width = shapes["shared.weight"]
        inner, _ = shapes[f"{attention}.q.weight"]
        hidden, _ = shapes["encoder.block.0.layer.1.DenseReluDense.wi_0.weight"]
        layers = numbered(shapes, "encoder.block.")
    except KeyError as error:
        raise CheckpointError(f"the text encoder has no tensor {error.args[0]}", fix) from error
    except ValueError as error:
        raise CheckpointError(f"the text encoder is damaged: {error}", fix) from error
    return {
        "vocab_size": vocabulary, "d_model": width, "d_kv": inner // heads, "d_ff": hidden, "num_layers": layers,
        "num_heads": heads, "relative_attention_num_buckets": buckets, "relative_attention_max_distance": 128,
        "feed_forward_proj": "gated-gelu", "dropout_rate": 0.0, "layer_norm_epsilon": 1e-6,
    }  # fmt: skip


def weights_of(tensors: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    """The encoder's own of a file's tensors, under Hugging Face's names; the embedding, which some list twice, once."""
    named = {to_hf_name(name): tensor for name, tensor in tensors.items() if name != TOKENIZER_KEY}
    named.pop(_TIED, None)
    return named


def build(
    tensors: Mapping[str, LazyTensor], dtype: torch.dtype, device: str | torch.device = "cpu"
) -> torch.nn.Module:
    """transformers' encoder holding `tensors` (any naming) as `dtype` on `device`.

    Names and shapes are compared before anything is read. Then one tensor at a time is read and placed, so that the
    peak is the finished encoder and one tensor.

    Raises CheckpointError: missing, unexpected or misshapen tensors. ResourceError: too little memory.
    """
    with installed("the text encoder UMT5", HEADLESS):
        from transformers import UMT5Config, UMT5EncoderModel

    named = weights_of(tensors)
    config = UMT5Config(**sizes_of({name: tensor.shape for name, tensor in named.items()}))
    with torch.device("meta"):
        model = UMT5EncoderModel(config)
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items() if name != _TIED}
    fix = "use the encoder as Wan-AI or Comfy-Org published it, in bf16 or fp16."
    check_shapes("UMT5", wanted, named, fix)
    require_memory(
        sum(tensor.numel for tensor in named.values()) * dtype.itemsize,
        torch.device(device),
        "the text encoder",
        "close other programs, or encode these prompts on a larger machine.",
    )
    # Copies: mapped weights are unaligned (slower, other rounding) and lock the file on Windows.
    state = {name: tensor.copied(dtype, device) for name, tensor in named.items()}
    state[_TIED] = state["shared.weight"]
    model.load_state_dict(state, assign=True)
    model.encoder.embed_tokens.weight = model.shared.weight
    return model.requires_grad_(False).eval()


class UMT5Encoder:
    """Prompts to rows; the weights (11 GB) are read for each call of `encode` and let go after it.

    A film's prompts come in one call, and what was encoded once is in the store, so keeping them would only
    take memory from the video model; `keep` keeps them all the same, as training wants it.
    """

    def __init__(
        self,
        tensors: Mapping[str, LazyTensor],
        tokenizer: Tokenizer,
        fingerprint: str,
        *,
        dtype: torch.dtype = torch.bfloat16,
        device: str | torch.device = "cpu",
        max_rows: int = MAX_ROWS,
    ) -> None:
        self.fingerprint = fingerprint
        self.weight_bytes = sum(tensor.numel for tensor in weights_of(tensors).values()) * dtype.itemsize
        """What the weights take in memory while prompts are encoded."""
        self._tensors, self._tokenizer = tensors, tokenizer
        self._dtype, self._device, self._max_rows = dtype, device, max_rows
        self.keep = False
        """Whether the weights stay between calls."""
        self._model: Any = None

    def token_ids(self, prompt: str) -> list[int]:
        """Ids of a cleaned prompt with the end mark, at most `max_rows`; a longer prompt is cut with a log line."""
        ids = self._tokenizer.ids(clean_prompt(prompt))
        if len(ids) >= self._max_rows:
            log.warning("prompt of %d tokens cut to %d: %.40s...", len(ids), self._max_rows - 1, prompt)
            ids = ids[: self._max_rows - 1]
        return [*ids, self._tokenizer.eos]

    @torch.no_grad()
    def encode(self, prompts: list[str]) -> list[Tensor]:
        """Each prompt to float32 rows [tokens, text_dim] on the CPU."""
        model, rows = self._model, []
        if model is None:
            log.info("reading the text encoder, %s", exact_size(self.weight_bytes))
            model = build(self._tensors, self._dtype, self._device)
        if self.keep:
            self._model = model
        for prompt in prompts:
            ids = torch.tensor([self.token_ids(prompt)], device=self._device)
            rows.append(model(input_ids=ids).last_hidden_state[0].float().cpu())
        del model
        if not self.keep and torch.device(self._device).type == "cuda":
            torch.cuda.empty_cache()  # or torch keeps the room, and the video model is told that it does not fit
        return rows
