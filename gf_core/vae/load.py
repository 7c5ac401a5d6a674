"""From a file or a folder to a codec: tells which autoencoder it is by the names of its tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import HEADLESS, CheckpointError, installed
from ..files.fingerprint import hash_state
from ..files.lazy import LazyTensor, TensorFile
from ..files.scales import FP8, unread, unscaled
from ..files.strange import refuse_zeros
from ..files.tensors import open_file
from ..files.unwrap import unwrap
from ..foreign import numbered
from .base import LatentCodec, fill
from .decoders import Decoder
from .taehv import TAEHV
from .wan import WAN_MEAN, WAN_STD, WanVAE

FIX = "choose a Wan2.1 VAE (wan_2.1_vae.safetensors), its tiny version (taew2_1.safetensors) or the built-in codec"
ORIGINAL = "decoder.middle.0.residual.0.gamma"
"""A tensor of Wan VAEs under the original (and ComfyUI's) names."""
NEIGHBOURS = ("first_stage_model.", "vae.")
"""What the VAE's names begin with in a file that holds a transformer too."""


def detect_vae(names: Iterable[str]) -> Decoder | None:
    """Which autoencoder has tensors of these names; None for anything else."""
    names = set(names)
    if ORIGINAL in names or "decoder.mid_block.resnets.0.norm1.gamma" in names:
        return "wan"
    if {"decoder.1.weight", "encoder.0.weight"} <= names:
        return "taehv"
    if "latent_mean" in names and any(name.startswith("net_decoder.") for name in names):
        return "builtin"
    return None


def build_vae(
    state: Mapping[str, Tensor],
    *,
    latents_mean: tuple[float, ...] = WAN_MEAN,
    latents_std: tuple[float, ...] = WAN_STD,
) -> LatentCodec:
    """A Wan VAE or a TAEHV from tensors under original, ComfyUI or diffusers names, in the dtype they have.

    Raises CheckpointError: neither of the two, or tensors missing.
    """
    kind = detect_vae(state)
    fingerprint = hash_state(state)
    if kind == "taehv":
        return TAEHV.from_state(state, fingerprint)
    if kind != "wan":
        raise CheckpointError("these tensors are not those of a VAE that can be driven", FIX)
    with installed("the Wan VAE", HEADLESS):
        from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

    tensors = canonical(state)
    with torch.device("meta"):
        network = AutoencoderKLWan(**read_sizes(tensors))
    fill(network, tensors, "a Wan VAE", FIX)
    return WanVAE(network, latents_mean, latents_std, fingerprint)


def describe_vae(path: Path) -> tuple[TensorFile, Decoder, dict[str, LazyTensor]]:
    """The file (.safetensors, .pth) or folder of a VAE, which one it is, and its tensors, none of them read.

    Raises CheckpointError: missing, damaged, unsafe, packed in a way that is not read, or no VAE.
    """
    file = open_file(path)
    beside = {name: tensor for name, tensor in file.tree.items() if name.startswith(NEIGHBOURS)}
    tensors = unwrap(beside or file.tree).tensors
    kind = detect_vae(tensors)
    if kind is None:
        raise CheckpointError(f"{path.name} is not a VAE that can be driven", FIX)
    if (cause := unread(tensors, file.metadata)) is not None:
        raise CheckpointError(f"{path.name} is a VAE {cause[0]}", cause[1])
    refuse_zeros(path.name, tensors)
    return file, kind, unscaled(tensors)


def load_vae(
    path: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> LatentCodec:
    """Open what `describe_vae` describes; errors as there.

    dtype: of the weights; None keeps the file's on a card and takes float32 on the CPU, which computes no other
        type well.
    """
    path = Path(path)
    file, kind, tensors = describe_vae(path)
    if len(file.parts) != 1:
        raise CheckpointError(f"{path} holds {len(file.parts)} weight files, a VAE has one", FIX)
    if dtype is None and torch.device(device).type == "cpu":
        dtype = torch.float32
    if kind == "builtin":
        from .builtin import load_codec

        return load_codec(file.parts[0], str(device), dtype or torch.float32)
    # Copies, because mapped weights are unaligned and lock the file on Windows.
    codec: Any = build_vae(
        {name: tensor.copied(_plain(tensor.dtype)) for name, tensor in tensors.items()},
        latents_mean=_numbers(file.config.get("latents_mean", WAN_MEAN), path),
        latents_std=_numbers(file.config.get("latents_std", WAN_STD), path),
    )
    return codec.to(device, dtype)


def _plain(stored: torch.dtype) -> torch.dtype:
    """A type to keep a tensor in that is stored in this one; in fp8 nothing is computed."""
    return torch.bfloat16 if stored in FP8 else stored


def _numbers(values: Any, folder: Path) -> tuple[float, ...]:
    try:
        return tuple(map(float, values))
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder.name}/config.json has latent means or deviations that are no numbers",
            "download it again",
        ) from error


def canonical(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A Wan VAE's `state` under diffusers' names."""
    from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

    return convert_wan_vae_to_diffusers(dict(state)) if ORIGINAL in state else dict(state)


def read_sizes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of `AutoencoderKLWan` for a state under diffusers' names.

    Raises CheckpointError: another kind of VAE, such as that of Wan2.2 5B.
    """
    try:
        base = state["encoder.conv_in.weight"].shape[0]
        widths, blocks, in_time = [], [], []
        count = 0
        # A stage's blocks end where pictures are halved; its width is that of its first block.
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
        raise CheckpointError(f"not the VAE of Wan2.1: {error} is not as expected", FIX) from error
    if decoder_base != base or pixels != 3 or len(set(blocks)) != 1 or len(widths) != len(blocks):
        raise CheckpointError(f"a VAE of another family than Wan2.1 ({sizes['z_dim']} latent channels)", FIX)
    return sizes
