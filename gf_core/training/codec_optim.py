"""The optimiser of the built-in codec: Muon (Jordan et al. 2024) on convolution kernels read as matrices."""

from __future__ import annotations

import torch
from torch import nn

from .optim import orthogonalise


class ConvMuon(torch.optim.Optimizer):
    """Momentum orthogonalised as one matrix per kernel; steps are as large as Adam's at the same rate."""

    def __init__(self, kernels: list[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(kernels, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update."""
        for group in self.param_groups:
            for kernel in group["params"]:
                velocity = self.state[kernel].setdefault("velocity", torch.zeros_like(kernel))
                velocity.lerp_(kernel.grad, 1 - group["momentum"])
                matrix = kernel.grad.lerp(velocity, group["momentum"]).flatten(1)
                # 0.2 sqrt(longer side): the root mean square of an orthogonal update becomes that of Adam's.
                scale = 0.2 * max(matrix.shape) ** 0.5
                kernel.sub_(orthogonalise(matrix).view(kernel.shape), alpha=group["lr"] * scale)


def split_kernels(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Kernels of the hidden layers, for ConvMuon, and all others (linear, stems, heads, norms) for Adam."""
    kernels, rest = [], []
    for name, parameter in module.named_parameters():
        outer = any(part in ("linear", "stem", "head") for part in name.split("."))
        (rest if outer or parameter.ndim != 4 else kernels).append(parameter)
    return kernels, rest
