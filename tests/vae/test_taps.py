"""The Wan decoder's own convolutions against torch's: on a card, or by Triton's interpreter."""

import os

import pytest
import torch
import torch.nn.functional as F

from gf_core.vae import wan
from gf_core.vae.base import look_of
from gf_core.vae.wan import WanDecoder, WanVAE
from gf_core.vae.wan_stages import Stages


class InTorch:
    """What `taps` offers, by torch: does the walk hand it the right numbers?"""

    @staticmethod
    def fits(layer):
        return layer.kernel_size == (3, 3, 3) and layer.in_channels == layer.out_channels

    @staticmethod
    def taps_of(weight):
        return weight

    @staticmethod
    def normed(x, gamma, out):
        bent = F.silu(F.normalize(x, dim=1) * len(gamma) ** 0.5 * gamma[:, None, None, None])
        out.copy_(F.pad(bent, (1, 1, 1, 1)))

    @staticmethod
    def conv(run, taps, bias, aside=None):
        made = F.conv3d(run, taps, bias)
        return made if aside is None else made + aside


def in_triton(monkeypatch):
    """The module, with tiles that an interpreter gets through."""
    if os.environ.get("TRITON_INTERPRET") != "1":  # to be set before Triton is imported
        pytest.skip("run with TRITON_INTERPRET=1 where Triton is")
    taps = pytest.importorskip("gf_core.vae.taps")
    monkeypatch.setattr(taps, "TILES", {8: (128, 4, 4, 4, 2), 16: (128, 8, 8, 4, 2)})
    monkeypatch.setattr(taps, "STEP", 8)
    return taps


def decoder_of(width, device="cpu", dtype=torch.float32):
    network = pytest.importorskip("diffusers").AutoencoderKLWan
    torch.manual_seed(0)
    network = network(base_dim=width, z_dim=16, dim_mult=[1, 2, 2, 2], num_res_blocks=1)
    for parameter in network.parameters():
        if parameter.ndim > 1 and parameter.shape[1:].numel() > 1:
            torch.nn.init.normal_(parameter, std=1.3 / parameter.shape[1:].numel() ** 0.5)
    return WanVAE(network.eval().requires_grad_(False).to(device, dtype), fingerprint="tiny")


@pytest.mark.parametrize("open_taps", [lambda _: InTorch, in_triton], ids=["torch", "triton"])
def test_a_film_by_taps_is_the_film(open_taps, monkeypatch):
    """Whatever is decoded together, and from a state that others left."""
    taps = open_taps(monkeypatch)
    vae, latents = decoder_of(8), torch.randn(4, 16, 2, 3)
    plain = WanDecoder(vae, channels_last=True)
    whole = plain.decode_raw(latents)
    for sizes in ((4,), (1, 3)):
        own = WanDecoder(vae, channels_last=True)
        own._stages = Stages(vae.network.decoder, own._stages.cache, True, taps)
        assert own._stages._own
        made = torch.cat([own.decode_raw(part) for part in latents.split(sizes)])
        assert (made - whole).abs().max() < 2e-5
    more = torch.randn(1, 16, 2, 3)
    own.restore(plain.snapshot())
    assert (own.decode_raw(more) - plain.decode_raw(more)).abs().max() < 2e-5


@pytest.mark.gpu
@pytest.mark.parametrize("size", [(8, 24), (60, 104), (33, 17)])
def test_taps_on_a_card(size):
    """All that a program's edge may cut, to the rounding of bfloat16; and the same bits twice."""
    from gf_core.vae import taps

    if torch.cuda.get_device_capability()[0] != wan.HOPPER:
        pytest.skip("not a Hopper card")
    made = {"device": "cuda", "dtype": torch.bfloat16}
    for width in taps.TILES:
        x, aside = (
            torch.randn(1, width, frames, *size, **made).contiguous(memory_format=torch.channels_last_3d)
            for frames in (5, 3)
        )
        weight, bias = torch.randn(width, width, 3, 3, 3, **made) / width, torch.randn(width, **made)
        run = torch.empty(1, width, 5, size[0] + 2, size[1] + 2, **made, memory_format=torch.channels_last_3d)
        run.fill_(9)
        taps.normed(x, bias, run)
        inner = run[..., 1:-1, 1:-1].float()
        like = F.silu(F.normalize(x.float(), dim=1) * width**0.5 * bias.float()[:, None, None, None])
        assert (inner - like).abs().max() < 0.05
        assert run.float().abs().sum() == pytest.approx(inner.abs().sum().item(), rel=1e-6)
        one, two = (taps.conv(run, taps.taps_of(weight), bias, aside) for _ in "ab")
        assert torch.equal(one, two)
        wanted = F.conv3d(inner, weight.float(), bias.float(), padding=(0, 1, 1)) + aside.float()
        assert ((one.float() - wanted).abs() < 0.02 + wanted.abs() / 128).all()


@pytest.mark.gpu
def test_a_card_uses_taps_and_says_so():
    vae = decoder_of(96, "cuda", torch.bfloat16)
    if torch.cuda.get_device_capability()[0] != wan.HOPPER:
        pytest.skip("not a Hopper card")
    assert vae.arithmetic and vae.decoder()._stages._own
    assert look_of(vae) != vae.fingerprint
    latents = torch.randn(4, 16, 8, 12)
    plain = vae.decoder()
    plain._stages = Stages(vae.network.decoder, plain._stages.cache, True)
    assert (vae.decoder().decode(latents) - plain.decode(latents)).abs().mean() < 5e-3


def test_pictures_are_told_apart_where_a_codec_rounds_in_its_own_way():
    """And keep their key where it does not: a Take made before goes on."""
    vae = decoder_of(4)
    assert vae.arithmetic == "" and look_of(vae) == "tiny"

    class Own:
        fingerprint, arithmetic = "tiny", "taps"

    assert look_of(Own()) not in ("tiny", "taps")
