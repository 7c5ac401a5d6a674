"""From a file or a folder to a codec: tells which autoencoder it is by the names of its tensors."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..foreign import read_json
from .base import LatentCodec
from .taehv import TAEHV
from .wan import WAN_MEAN, WAN_STD, WanVAE
from .wan_names import canonical, is_original, read_sizes

VaeKind = Literal["wan", "taehv", "builtin"]
FIX = "choose a Wan2.1 VAE (wan_2.1_vae.safetensors), its tiny version (taew2_1.safetensors) or the built-in codec"
PREFIXES = ("first_stage_model.", "vae.", "model.", "module.")
WRAPPINGS = ("state_dict", "model_state", "model")


def detect_vae(names: Iterable[str]) -> VaeKind | None:
    """Which autoencoder has tensors of these names; None for anything else."""
    names = set(names)
    if is_original(names) or "decoder.mid_block.resnets.0.norm1.gamma" in names:
        return "wan"
    if {"decoder.1.weight", "decoder.3.conv.0.weight", "encoder.0.weight"} <= names:
        return "taehv"
    if "latent_mean" in names and any(name.startswith("net_decoder.") for name in names):
        return "builtin"
    return None


def fingerprint_of(state: Mapping[str, Tensor]) -> str:
    """Hash of names, dtypes, shapes and bytes; the order and the wrapping of a file do not matter."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def build_vae(
    state: Mapping[str, Tensor], *, fingerprint: str = "", latents_mean: tuple[float, ...] = WAN_MEAN,
    latents_std: tuple[float, ...] = WAN_STD,
) -> LatentCodec:  # fmt: skip
    """A Wan VAE or a TAEHV from tensors under original, ComfyUI or diffusers names, in the dtype they have.

    Raises:
        CheckpointError: neither of the two, or tensors missing.
    """
    kind = detect_vae(state)
    fingerprint = fingerprint or fingerprint_of(state)
    if kind == "taehv":
        return TAEHV.from_state(state, fingerprint)
    if kind != "wan":
        raise CheckpointError("these tensors are not those of a VAE that can be driven", FIX)
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

    tensors = canonical(state)
    with torch.device("meta"):
        network = AutoencoderKLWan(**read_sizes(tensors))
    try:
        network.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise CheckpointError(
            f"the tensors do not make a Wan VAE: {str(error).splitlines()[-1].strip()}", FIX
        ) from error
    network.eval().requires_grad_(False)
    return WanVAE(network, latents_mean, latents_std, fingerprint)


def load_vae(
    path: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> LatentCodec:
    """Open a VAE file (.safetensors, .pth) or a diffusers `vae` folder.

    Args:
        dtype: of the weights; None keeps the file's on a card and takes float32 on the CPU, which computes no other
            type well.

    Raises:
        CheckpointError: missing, damaged, unsafe, or no VAE.
    """
    path = Path(path)
    config = _folder_config(path) if path.is_dir() else {}
    file = _folder_weights(path) if path.is_dir() else path
    if not file.is_file():
        raise CheckpointError(f"there is no VAE file at {path}", FIX)
    state = _unwrap(_read(file))
    kind = detect_vae(state)
    if kind is None:
        raise CheckpointError(f"{file.name} is not a VAE that can be driven", FIX)
    if dtype is None and torch.device(device).type == "cpu":
        dtype = torch.float32
    if kind == "builtin":
        from .builtin import load_codec

        return load_codec(file, str(device), dtype or torch.float32)
    codec: Any = build_vae(
        state,
        latents_mean=_numbers(config.get("latents_mean", WAN_MEAN), path),
        latents_std=_numbers(config.get("latents_std", WAN_STD), path),
    )
    return codec.to(device, dtype)


def _folder_config(folder: Path) -> dict[str, Any]:
    try:
        config = read_json((folder / "config.json").read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise CheckpointError(
            f"{folder.name}/config.json is damaged: {error}", "download it again"
        ) from error
    return config if isinstance(config, dict) else {}


def _numbers(values: Any, folder: Path) -> tuple[float, ...]:
    try:
        return tuple(map(float, values))
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder.name}/config.json has latent means or deviations that are no numbers",
            "download it again",
        ) from error


def _folder_weights(folder: Path) -> Path:
    files = sorted(folder.glob("*.safetensors"))
    if len(files) != 1:
        raise CheckpointError(f"{folder} holds {len(files)} weight files, a VAE has one", FIX)
    return files[0]


def _read(file: Path) -> Mapping[str, Any]:
    """Tensors of a file; a pickle is read as tensors only, code in it is never run."""
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            return load_file(str(file))
        content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{file.name} wants to run code or is damaged; it was not opened",
            "use the .safetensors version of the file",
        ) from error
    except Exception as error:  # a damaged file makes its reader raise almost anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{file.name} is damaged: {reason}", "download it again") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{file.name} holds no named tensors", FIX)
    return content


def _unwrap(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Tensors without the outer key and the common prefix that training code leaves around them."""
    for key in WRAPPINGS:
        if isinstance(content.get(key), Mapping):
            content = content[key]
    state = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    for prefix in PREFIXES:
        inner = {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}
        if detect_vae(inner):
            return inner
    return state
