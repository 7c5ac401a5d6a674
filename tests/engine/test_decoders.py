"""A decoder's state is decided by a fixed number of latent frames: measured here, on random weights of each kind."""

from __future__ import annotations

import pytest
import torch

from gf_core.checkpoints.bundle import load_model
from gf_core.files.pieces import digest
from gf_core.vae.decoders import REACH, STATE_VALUES, chunks_within_reach, kind_of
from gf_core.vae.wan import WanVAE

from ..vae.kinds import taehv


def wan():
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

    network = AutoencoderKLWan(base_dim=8, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2)
    return WanVAE(network.eval().requires_grad_(False), fingerprint="random")


KINDS = {"wan": wan, "taehv": taehv, "builtin": lambda: load_model("builtin").codec}


@pytest.mark.parametrize("kind", [pytest.param("wan", marks=pytest.mark.slow), "taehv", "builtin"])
@torch.no_grad()
def test_a_state_is_settled_after_its_reach_and_not_a_frame_before(kind):
    torch.manual_seed(0)
    codec, reach = KINDS[kind](), REACH[kind]
    latents = torch.randn(reach + 9, 16, 2, 2)
    assert kind_of(codec) == kind and chunks_within_reach(codec, 3) == -(-reach // 3)

    def state_after(frames):
        decoder = codec.decoder()
        for start in range(0, len(frames), 3):
            decoder.decode(frames[start : start + 3])
        return digest(decoder.snapshot())

    whole = state_after(latents)
    assert state_after(latents[-reach:]) == whole != state_after(latents[1 - reach :])


@torch.no_grad()
def test_the_state_of_the_builtin_codec_is_as_large_as_estimates_say():
    decoder = load_model("builtin").codec.decoder()
    decoder.decode(torch.randn(2, 16, 8, 12))
    numbers = sum(past.numel() for past in decoder.snapshot().values())
    assert numbers == STATE_VALUES["builtin"] * 64 * 96


def test_of_an_unknown_decoder_nothing_is_assumed():
    assert kind_of(object()) is None and chunks_within_reach(object(), 3) == float("inf")  # type: ignore[arg-type]
