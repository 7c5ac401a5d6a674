"""Replay of the Wan VAE: encode, decode, and decode as a stream."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from dev.parity.case import Case
from gf_core.vae.load import build_vae
from gf_core.vae.wan import WanVAE


def serves(case: Case) -> bool:
    """Whether the case is about an autoencoder."""
    return "z_dim" in case.doc.get("model", {})


def _decode(vae: WanVAE, latents: Tensor, sizes: list[int]) -> Tensor:
    """Latents [1 c f h w] through one stream in calls of the given sizes, unclamped [1 3 t H W]."""
    stream = vae.decoder()
    pictures = torch.cat([stream.decode_raw(part) for part in latents[0].transpose(0, 1).split(sizes)])
    return pictures.transpose(0, 1)[None]


def _encode(vae: WanVAE, video: Tensor, *, natural: bool = False) -> Tensor:
    """Video [1 3 t H W] in -1..1 to latents [1 c f h w]."""
    frames = (rearrange(video[0], "c t h w -> t h w c") + 1) / 2
    latents = vae.encode_natural(frames) if natural else vae.encode(frames)
    return latents.transpose(0, 1)[None]


def replay(case: Case) -> None:
    """Give every recorded encoding and decoding of `in.video` and `in.z`."""
    mean, std = (tuple(case.inputs[f"latents_{n}"].tolist()) for n in ("mean", "std"))
    vae = build_vae(case.weights, latents_mean=mean, latents_std=std)
    assert isinstance(vae, WanVAE)  # the weights of the case say so
    video, z = case.inputs["video"], case.inputs["z"]
    encoded, mu = _encode(vae, video), _encode(vae, video, natural=True)
    for name in ("wan21.encode", "comfy.latent_format_in_of_encode"):
        case.give(name, encoded)
    for name in ("wan21.encode_unscaled_mu", "comfy.encode_unscaled", "diffusers.encode_mean"):
        case.give(name, mu)
    case.give("wan21.encode_first_frame_only", _encode(vae, video[:, :, :1]))
    case.give("wan21.encode_T_minus_2", _encode(vae, video[:, :, :-2]))
    with torch.no_grad():
        case.give("diffusers.encode_logvar", vae.network.encode(video, return_dict=False)[0].logvar)
        natural = vae.natural(z[0].transpose(0, 1)).transpose(0, 1)[None]
        case.give("wan21.decode_after_conv2", vae.network.post_quant_conv(natural))
    whole = _decode(vae, z, [z.shape[2]])
    for name in ("wan21.decode", "comfy.decode"):
        case.give(name, whole)
    for name in ("demo_wrapper.clamped", "diffusers.decode_clamped"):
        case.give(name, whole.clamp(-1, 1))
    case.give("wan21.decode_first_latent_only", _decode(vae, z[:, :, :1], [1]))
    case.give("wan21.decode_of_encode", _decode(vae, encoded, [encoded.shape[2]]))
    for sizes in case.doc.get("chunk_lists", []):
        case.give(f"stream.chunks_{'_'.join(map(str, sizes))}", _decode(vae, z, sizes))
