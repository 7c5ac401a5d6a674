"""What network a MODEL holds, read from the host's module: its shape, its number type, and a refusal in words."""

from __future__ import annotations

from typing import Any

import torch

from ...gf_core.checkpoints.families import foreign
from ...gf_core.config import ModelSpec
from ...gf_core.errors import CheckpointError

DRIVABLE = ("WanModel", "CausalWanModel")
FAMILIES = {"VaceWanModel": "wan_vace"}
FIX = (
    "connect the MODEL of Load Model (Grounded Forcing), or of any loader that has opened a causal Wan 2.1 "
    "text-to-video file such as self_forcing_dmd.pt (gdhe17/Self-Forcing)"
)

UNPACKED = torch.bfloat16
"""What packed weights (GGUF) become by themselves: the host computes on plain numbers."""


def network_of(patcher: Any) -> Any:
    """The transformer's module tree; a compiled one is looked through."""
    network = patcher.model.diffusion_model
    return getattr(network, "_orig_mod", network)


def read_shape(patcher: Any) -> ModelSpec:
    """Shape of the Wan transformer in a MODEL.

    Raises CheckpointError: it is something else, which the message names.
    """
    network = network_of(patcher)
    kind = type(network).__name__
    if kind in FAMILIES:
        raise foreign("the MODEL", "wan_vace", 16)
    if kind not in DRIVABLE:
        raise CheckpointError(f"the MODEL is a {kind}, not a Wan 2.1 text-to-video transformer", FIX)
    if network.in_dim == 48:
        raise foreign("the MODEL", "wan_5b", 48)
    if network.model_type != "t2v" or network.in_dim == 36:
        raise foreign("the MODEL", "wan_i2v", network.in_dim)
    if network.in_dim != network.out_dim:
        raise foreign("the MODEL", "wan_other", network.in_dim)
    depth, height, width = network.patch_size
    return ModelSpec(
        dim=network.dim,
        ffn_dim=network.ffn_dim,
        num_heads=network.num_heads,
        num_layers=network.num_layers,
        in_dim=network.in_dim,
        out_dim=network.out_dim,
        text_len=network.text_len,
        text_dim=network.text_dim,
        freq_dim=network.freq_dim,
        patch_size=(depth, height, width),
        eps=network.eps,
    )


def compute_dtype(patcher: Any) -> torch.dtype:
    """What the host computes this MODEL in, whatever the weights are stored as; a node may have chosen it."""
    # Asked of the patcher: on the model lies what the last MODEL with these weights wanted.
    return patcher.get_model_object("manual_cast_dtype") or patcher.model.get_dtype()
