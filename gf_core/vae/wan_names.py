"""Tensor names and sizes of a Wan VAE: from the original names to diffusers', and what the shapes say of its build."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from ..errors import CheckpointError
from ..foreign import numbered

RESIDUAL = {"0": "norm1", "2": "conv1", "3": "norm2", "6": "conv2"}
MIDDLE = {"0": "resnets.0", "1": "attentions.0", "2": "resnets.1"}
WHOLE = {
    "conv1": "quant_conv", "conv2": "post_quant_conv", "encoder.conv1": "encoder.conv_in",
    "decoder.conv1": "decoder.conv_in", "encoder.head.0": "encoder.norm_out", "encoder.head.2": "encoder.conv_out",
    "decoder.head.0": "decoder.norm_out", "decoder.head.2": "decoder.conv_out",
}  # fmt: skip


def _inner(rest: str) -> str:
    """Names inside one block."""
    if match := re.fullmatch(r"residual\.(\d)", rest):
        return RESIDUAL[match[1]]
    return "conv_shortcut" if rest == "shortcut" else rest


def to_diffusers(name: str, blocks_per_stage: int) -> str:
    """One original tensor name as diffusers has it; `blocks_per_stage` residual blocks before each upsampling."""
    stem, _, leaf = name.rpartition(".")
    if stem in WHOLE:
        return f"{WHOLE[stem]}.{leaf}"
    if match := re.fullmatch(r"(encoder|decoder)\.middle\.(\d)\.(.+)", stem):
        return f"{match[1]}.mid_block.{MIDDLE[match[2]]}.{_inner(match[3])}.{leaf}"
    if match := re.fullmatch(r"encoder\.downsamples\.(\d+)\.(.+)", stem):
        return f"encoder.down_blocks.{match[1]}.{_inner(match[2])}.{leaf}"
    if match := re.fullmatch(r"decoder\.upsamples\.(\d+)\.(.+)", stem):
        stage, block = divmod(int(match[1]), blocks_per_stage + 1)
        place = f"resnets.{block}" if block < blocks_per_stage else "upsamplers.0"
        return f"decoder.up_blocks.{stage}.{place}.{_inner(match[2])}.{leaf}"
    return name


def is_original(names: Iterable[str]) -> bool:
    """Whether these are the original (and ComfyUI's) names."""
    return "decoder.middle.0.residual.0.gamma" in names


def canonical(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` under diffusers' names."""
    if not is_original(state):
        return dict(state)
    first_upsampler = next(
        (n for n in range(len(state)) if f"decoder.upsamples.{n}.resample.1.weight" in state), len(state)
    )
    return {to_diffusers(name, first_upsampler): value for name, value in state.items()}


def read_sizes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of `AutoencoderKLWan` for a state under diffusers' names.

    Raises:
        CheckpointError: another kind of VAE, such as that of Wan2.2 5B.
    """
    fix = "use the VAE of Wan2.1: Wan2.1_VAE.pth, wan_2.1_vae.safetensors or the vae folder of a diffusers model"
    try:
        base = state["encoder.conv_in.weight"].shape[0]
        widths, blocks, in_time = [], [], []
        count = 0
        for n in range(numbered(state, "encoder.down_blocks.")):
            prefix = f"encoder.down_blocks.{n}"
            if f"{prefix}.resample.1.weight" in state:
                blocks.append(count)
                in_time.append(f"{prefix}.time_conv.weight" in state)
                count = 0
            else:
                width = state[f"{prefix}.conv1.weight"].shape[0]
                widths += [] if count else [width]
                count += 1
        blocks.append(count)
        decoder_base = state["decoder.norm_out.gamma"].shape[0]
        pixels = state["decoder.conv_out.weight"].shape[0]
        sizes = {
            "base_dim": base,
            "z_dim": state["post_quant_conv.weight"].shape[0],
            "dim_mult": [width // base for width in widths],
            "num_res_blocks": blocks[0],
            "temperal_downsample": in_time,
        }
    except (IndexError, KeyError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(f"not the VAE of Wan2.1: {error} is not as expected", fix) from error
    if decoder_base != base or pixels != 3 or len(set(blocks)) != 1 or len(widths) != len(blocks):
        raise CheckpointError(f"a VAE of another family than Wan2.1 ({sizes['z_dim']} latent channels)", fix)
    return sizes
