"""What a file is, told from the names and shapes of its tensors: a row for each kind of network that people try.

Transformers are known by their original names. The first row that fits counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import NamedTuple

from ..errors import CheckpointError
from ..files.lazy import LazyTensor
from ..vae.load import detect_vae

NEEDED = (
    "The engine needs a causal Wan 2.1 text-to-video model, for example self_forcing_dmd.pt "
    "(gdhe17/Self-Forcing) or longlive_base.pt with lora.pt (Efficient-Large-Model/LongLive-1.3B)."
)
_TRANSFORMER = f"Choose the transformer instead: {NEEDED}"
_OWN = "Choose model.safetensors beside it."

Tensors = Mapping[str, LazyTensor]
Sign = Callable[[Tensors], bool]


class Kind(NamedTuple):
    """One row."""

    fits: Sign
    """Whether tensors are of this kind, where those of no row above are."""
    words: str
    """What a file of it is; {channels} as `channels_of`."""
    fix: str = NEEDED
    """What to do where a causal Wan was wanted."""


def _has(*parts: str) -> Sign:
    return lambda tensors: any(part in name for name in tensors for part in parts)


def _begins(*starts: str) -> Sign:
    return lambda tensors: any(name.startswith(starts) for name in tensors)


def _stranger(start: str, words: str) -> Kind:
    return Kind(_begins(start), f"{words}, not a Wan transformer")


def _vae(kind: str) -> Sign:
    return lambda tensors: detect_vae(tensors) == kind


def _wan(family: str) -> Sign:
    return lambda tensors: _wan_family(tensors) == family


def _wan_family(tensors: Tensors) -> str | None:
    """Which of the Wan transformers; None for all other networks."""
    if not {"head.modulation", "patch_embedding.weight"} <= tensors.keys():
        return None
    channels, patch = channels_of(tensors), tensors["patch_embedding.weight"].shape
    head = tensors["head.head.weight"].shape if "head.head.weight" in tensors else ()
    alike = not head or head[0] == channels * prod(
        patch[2:]
    )  # else inputs that control it lie beside the latents
    if _begins("vace_blocks.", "vace_patch_embedding.")(tensors):
        return "vace"
    if channels == 48 and alike:
        return "5b"
    if channels == 36 or _has("img_emb.", ".k_img.")(tensors):
        return "i2v"
    return "t2v" if alike and len(patch) == 5 and prod(patch) else "other"


_UMT5 = {
    "blocks.0.pos_embedding.embedding.weight", "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight",
    "enc.blk.1.attn_rel_b.weight",
}  # fmt: skip
"""A relative bias in Wan's names, in the second layer (T5 shares the first one's), and that in llama.cpp's names."""
KINDS = {
    "lora": Kind(
        _has(".lora_", ".lora.", ".diff", ".dora_scale", ".lokr_", ".hada_", ".oft_", ".w_norm"),
        "a LoRA, a small change to a model", "Choose the model that it changes, and give this file as a LoRA of it.",
    ),
    "wan_vace": Kind(_wan("vace"), "a Wan VACE model, which edits whole clips with control inputs"),
    "wan_5b": Kind(_wan("5b"), "the Wan 2.2 5B, whose latents have {channels} channels and another VAE"),
    "wan_i2v": Kind(
        _wan("i2v"), "an image-to-video Wan ({channels} input channels and an image head)",
        f"{NEEDED} To start a film from a picture, give the picture to a text-to-video model as start image.",
    ),
    "wan_t2v": Kind(_wan("t2v"), "a Wan text-to-video transformer", ""),
    "wan_other": Kind(_wan("other"), "a Wan transformer with {channels} input channels, not plain text-to-video"),
    "wan_vae": Kind(
        _vae("wan"), "a Wan VAE ({channels} channels), which turns latents into pictures", _TRANSFORMER
    ),
    "tiny_vae": Kind(_vae("taehv"), "a tiny VAE (TAEHV), which turns latents into pictures fast", _TRANSFORMER),
    "own_codec": Kind(_vae("builtin"), "the codec of the built-in model", _OWN),
    "own_text": Kind(
        lambda tensors: {"embedding.weight", "position", "layers.0.qkv.weight"} <= tensors.keys(),
        "the text encoder of the built-in model", _OWN,
    ),
    "umt5": Kind(lambda tensors: bool(_UMT5 & tensors.keys()), "the UMT5 text encoder", _TRANSFORMER),
    "other_text": Kind(
        _begins("text_model.", "encoder.block.", "enc.blk.", "layers.0.self_attn"),
        "a text encoder of another model family", _TRANSFORMER,
    ),
    "sd": _stranger("input_blocks.0.0.", "a Stable Diffusion network (1.5 or XL), which makes single pictures"),
    "sd3": _stranger("joint_blocks.0.", "a Stable Diffusion 3 network, which makes single pictures"),
    "hunyuan": _stranger("img_in.proj.", "a HunyuanVideo network"),
    "flux": _stranger("double_blocks.0.", "a Flux network, which makes single pictures"),
    "ltx": _stranger("adaln_single.", "an LTX or PixArt network"),
    "dit": _stranger("transformer_blocks.0.", "a transformer of another family"),
    "unet": _stranger("down_blocks.0.", "a U-Net in diffusers layout, which makes single pictures"),
    "unknown": Kind(lambda tensors: True, "not a Wan transformer"),
}  # fmt: skip


def family_of(tensors: Tensors) -> str:
    """Name of the row that fits."""
    return next(family for family, kind in KINDS.items() if kind.fits(tensors))


def channels_of(tensors: Tensors) -> int:
    """Channels that a transformer's patch embedding takes, or a VAE's latents have; 0 where neither is told."""
    for name in ("patch_embedding.weight", "decoder.conv1.weight", "decoder.conv_in.weight"):
        if name in tensors and len(tensors[name].shape) == 5:
            return tensors[name].shape[1]
    return 0


def kind_in_words(family: str, channels: int) -> str:
    """What a file of this family is: `a Wan VAE (16 channels), which turns latents into pictures`."""
    return KINDS[family].words.format(channels=channels)


def foreign(name: str, family: str, channels: int) -> CheckpointError:
    """The refusal of `name`, which is of a family that the engine does not drive."""
    return CheckpointError(f"{name} is {kind_in_words(family, channels)}", KINDS[family].fix)
