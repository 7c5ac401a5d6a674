"""What a file is, told from the names and shapes of its tensors: a row for each kind of network that people try.

Transformers are known by their original names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
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
_OTHER = ", not a Wan transformer"


class Kind(NamedTuple):
    """One row."""

    words: str
    """What a file of it is; {channels} as `channels_of`."""
    fix: str = NEEDED
    """What to do where a causal Wan was wanted."""
    sign: str = ""
    """What the name of some tensor holds; empty where shapes or several names tell (`family_of`)."""


KINDS = {
    "lora": Kind(
        "a LoRA, a small change to a model", "Choose the model that it changes, and give this file as a LoRA of it.",
        r"\.(lora_|lora\.|diff|dora_scale|lokr_|hada_|oft_|w_norm)",
    ),
    "wan_vace": Kind("a Wan VACE model, which edits whole clips with control inputs"),
    "wan_5b": Kind("the Wan 2.2 5B, whose latents have {channels} channels and another VAE"),
    "wan_i2v": Kind(
        "an image-to-video Wan ({channels} input channels and an image head)",
        f"{NEEDED} To start a film from a picture, give the picture to a text-to-video model as start image.",
    ),
    "wan_t2v": Kind("a Wan text-to-video transformer", ""),
    "wan_other": Kind("a Wan transformer with {channels} input channels, not plain text-to-video"),
    "wan_vae": Kind("a Wan VAE ({channels} channels), which turns latents into pictures", _TRANSFORMER),
    "tiny_vae": Kind("a tiny VAE (TAEHV), which turns latents into pictures fast", _TRANSFORMER),
    "own_codec": Kind("the codec of the built-in model", _OWN),
    "own_text": Kind("the text encoder of the built-in model", _OWN),
    "umt5": Kind(  # Wan's names; the second layer's bias, which T5 shares with the first, and llama.cpp's name of it
        "the UMT5 text encoder", _TRANSFORMER,
        r"^(blocks\.0\.pos_embedding\.embedding|encoder\.block\.1\.layer\.0\.SelfAttention\.relative_attention_bias"
        r"|enc\.blk\.1\.attn_rel_b)\.weight$",
    ),
    "other_text": Kind(
        "a text encoder of another model family", _TRANSFORMER,
        r"^(text_model|encoder\.block|enc\.blk)\.|^layers\.0\.self_attn",
    ),
    "sd": Kind(
        f"a Stable Diffusion network (1.5 or XL), which makes single pictures{_OTHER}", sign=r"^input_blocks\.0\.0\."
    ),
    "sd3": Kind(f"a Stable Diffusion 3 network, which makes single pictures{_OTHER}", sign=r"^joint_blocks\.0\."),
    "hunyuan": Kind(f"a HunyuanVideo network{_OTHER}", sign=r"^img_in\.proj\."),
    "flux": Kind(f"a Flux network, which makes single pictures{_OTHER}", sign=r"^double_blocks\.0\."),
    "ltx": Kind(f"an LTX or PixArt network{_OTHER}", sign=r"^adaln_single\."),
    "dit": Kind(f"a transformer of another family{_OTHER}", sign=r"^transformer_blocks\.0\."),
    "unet": Kind(
        f"a U-Net in diffusers layout, which makes single pictures{_OTHER}", sign=r"^down_blocks\.0\."
    ),
    "unknown": Kind("not a Wan transformer"),
}  # fmt: skip
"""The first sign that fits counts, so the more telling stand first."""
_VAES = {"wan": "wan_vae", "taehv": "tiny_vae", "builtin": "own_codec", None: ""}


def family_of(tensors: Mapping[str, LazyTensor]) -> str:
    """Name of the row that these tensors are of."""
    signs = ((family, re.compile(kind.sign)) for family, kind in KINDS.items() if kind.sign)
    named = next((family for family, sign in signs if any(map(sign.search, tensors))), "unknown")
    if named == "lora":
        return named
    if {"head.modulation", "patch_embedding.weight"} <= tensors.keys():
        return _wan_family(tensors)
    own = {"embedding.weight", "position", "layers.0.qkv.weight"} <= tensors.keys()
    return _VAES[detect_vae(tensors)] or ("own_text" if own else named)


def _wan_family(tensors: Mapping[str, LazyTensor]) -> str:
    if any(name.startswith(("vace_blocks.", "vace_patch_embedding.")) for name in tensors):
        return "wan_vace"
    channels, patch = channels_of(tensors), tensors["patch_embedding.weight"].shape
    head = tensors["head.head.weight"].shape if "head.head.weight" in tensors else ()
    # Else inputs that control it lie beside the latents.
    alike = not head or head[0] == channels * prod(patch[2:])
    if channels == 48 and alike:
        return "wan_5b"
    if channels == 36 or any(name.startswith("img_emb.") or ".k_img." in name for name in tensors):
        return "wan_i2v"
    return "wan_t2v" if len(patch) == 5 and prod(patch) and alike else "wan_other"


def channels_of(tensors: Mapping[str, LazyTensor]) -> int:
    """Channels that a transformer's patch embedding takes, or a VAE's latents have; 0 where neither is told."""
    for name in ("patch_embedding.weight", "decoder.conv1.weight", "decoder.conv_in.weight"):
        if name in tensors and len(tensors[name].shape) == 5:
            return tensors[name].shape[1]
    return 0


def kind_in_words(family: str, channels: int) -> str:
    """What a file of this family is: `a Wan VAE (16 channels), which turns latents into pictures`."""
    return KINDS[family].words.format(channels=channels)


def not_causal(name: str, size: str, otherwise: str) -> CheckpointError:
    """The refusal of a plain Wan transformer of this size; otherwise: how a person says that it is one of ours."""
    return CheckpointError(
        f"{name} is a Wan text-to-video transformer of {size}, but nothing says that it is causal: plain Wan makes "
        "whole clips at once and cannot continue a film",
        f"{NEEDED} If you know that it was distilled to be causal and was only renamed, {otherwise}",
    )


def foreign(name: str, family: str, channels: int) -> CheckpointError:
    """The refusal of `name`, which is of a family that the engine does not drive."""
    return CheckpointError(f"{name} is {kind_in_words(family, channels)}", KINDS[family].fix)
