"""Random weights that are the same wherever they are made; needs torch alone."""

import torch


def randomised(module, seed=0):
    """A module with small random weights; norms near one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            near_one = (value.ndim == 1 and "norm" in name and name.endswith("weight")) or name.endswith(
                "gamma"
            )
            scale = 0.02 if value.ndim == 1 else value[0].numel() ** -0.5
            value.copy_(1 + 0.1 * noise if near_one else noise * scale)
    return module
