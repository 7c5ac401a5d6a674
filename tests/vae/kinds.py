"""Small autoencoders of every kind with random weights."""

from __future__ import annotations

import pytest
import torch
from torch.utils._pytree import tree_leaves

from gf_core.vae.builtin import BuiltinCodec, CodecConfig
from gf_core.vae.load import build_vae
from gf_core.vae.taehv import TAEHV
from gf_core.vae.wan import WanVAE

SMALL = CodecConfig(encoder_widths=(8, 12, 16), decoder_widths=(8, 12, 16), decoder_blocks=(1, 1, 1))


def builtin():
    torch.manual_seed(0)
    codec = BuiltinCodec(SMALL).eval()
    codec.latent_mean.copy_(torch.randn(16) * 0.1)
    codec.latent_std.copy_(torch.rand(16) + 0.5)
    return codec


def file_state(codec):
    """Tensors of a TAEHV under the names of the public files."""
    return {name.replace("decoder_net.", "decoder."): value for name, value in codec.state_dict().items()}


def taehv():
    torch.manual_seed(0)
    codec = TAEHV(16, (12, 10, 8, 8), encoder_width=8)
    for parameter in codec.parameters():
        if parameter.ndim == 4:
            torch.nn.init.normal_(parameter, std=1 / parameter[0].numel() ** 0.5)
    return build_vae(file_state(codec))


def wan():
    pytest.importorskip("diffusers")
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    network = AutoencoderKLWan(base_dim=4, z_dim=16, dim_mult=[1, 2, 2, 2], num_res_blocks=1)
    for parameter in network.parameters():
        if parameter.ndim > 1 and parameter.shape[1:].numel() > 1:
            torch.nn.init.normal_(parameter, std=1.3 / parameter.shape[1:].numel() ** 0.5)
    return WanVAE(network.eval().requires_grad_(False), fingerprint="tiny")


class Counted:
    """Stands for a compiler: what it would compile is each shape of each piece."""

    def __init__(self):
        self.shapes = set()

    def __call__(self, function):
        def piece(*given):
            leaves = tree_leaves(given)
            shapes = tuple(
                (type(x), x.shape, x.stride()) if isinstance(x, torch.Tensor) else x for x in leaves
            )
            self.shapes.add((function.__name__, shapes))
            return function(*given)

        return piece
