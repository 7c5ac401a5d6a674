"""A part of `card.py` that needs no network: the two decoders in their layouts."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from typing import Any

import torch
from card_place import Place, kernels, ms

from gf_core.evaluation.bench import now
from gf_core.model.compiled import compiler
from gf_core.vae.base import LatentCodec, StreamDecoder
from gf_core.vae.wan_pieces import fused

DECODED = 6
"""Chunks that a decoder is timed over; the first is told apart."""


def codecs(place: Place) -> dict[str, Callable[[], LatentCodec]]:
    """The two decoders with random weights."""

    def tiny_codec() -> LatentCodec:
        from gf_core.vae.taehv import TAEHV

        codec = TAEHV(16, (12, 10, 8, 8), encoder_width=8) if place.dry else TAEHV()
        codec.fingerprint = "random"
        return codec.to(place.device, place.dtype).eval().requires_grad_(False)

    def wan_codec() -> LatentCodec:
        # What may be packed for attention alone is not what diffusers thinks that it has found.
        aside = sys.modules.pop("flash_attn", None)
        sys.modules["flash_attn"] = None  # type: ignore[assignment]
        from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

        from gf_core.vae.wan import WanVAE

        del sys.modules["flash_attn"]
        if aside is not None:
            sys.modules["flash_attn"] = aside

        sizes: dict[str, Any] = (
            {"base_dim": 4, "dim_mult": [1, 2, 2, 2], "num_res_blocks": 1} if place.dry else {}
        )
        network: Any = AutoencoderKLWan(**sizes)
        network = network.to(place.device, place.dtype)
        return WanVAE(network.eval().requires_grad_(False), fingerprint="random")

    return {"TAEHV": tiny_codec, "Wan VAE": wan_codec}


def decoders(place: Place) -> None:
    """Twelve pictures as films are decoded here, and where that goes; 110 ms are wanted of Wan's, 6 of TAEHV's."""
    cells, torch_rng = (8, 12) if place.dry else (60, 104), torch.Generator().manual_seed(0)
    latents = torch.randn(3, 16, *cells, generator=torch_rng).to(place.device, place.dtype)
    found: dict[str, Any] = {name: make() for name, make in codecs(place).items()}
    if not place.dry:  # a processor's compiler takes half a minute
        found["Wan VAE, compiled"] = found["Wan VAE"].fused(fused(*compiler()))
    for name, codec in found.items():
        decoder = codec.decoder()
        _decode(place, f"{name}, as films do", decoder, latents)
        _look(place, name, lambda decoder=decoder: decoder.decode(latents))


def _look(place: Place, name: str, call: Callable[[], Any]) -> None:
    """Where a call goes, by the names of kernels."""
    spent = kernels(call, place.device)
    place.keep(f"kernels of {name}", spent[:40])
    first = "; ".join(f"{ms(seconds)} {count}x {kernel[:50]}" for seconds, count, kernel in spent[:4])
    place.tell(f"{name}, kernels", ms(sum(seconds for seconds, *_ in spent)), first)


def _decode(place: Place, name: str, decoder: StreamDecoder, latents: torch.Tensor) -> None:
    seconds = []
    place.peak()
    for _ in range(DECODED):
        began = now(place.device)
        pictures = decoder.decode(latents)
        seconds.append(now(place.device) - began)
    height, width = pictures.shape[1:3]
    size = f"{len(pictures)} pictures of {width}x{height}; first call {ms(seconds[0])}"
    place.tell(name, ms(statistics.median(seconds[1:])), ", ".join(filter(None, [size, place.peak()])))
