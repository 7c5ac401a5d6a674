"""Muon for the hidden matrices, AdamW for everything else, and a running average of the weights.

Muon: momentum orthogonalised by a Newton-Schulz iteration (Jordan et al. 2024, KellerJordan/Muon); it needs about half
the steps of Adam here, which on a processor is half the night.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrix: Tensor, iterations: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrix, roughly: singular values land in 0.7..1.2. bfloat16 inside."""
    x = matrix.bfloat16()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    a, b, c = NEWTON_SCHULZ
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if tall else x).type_as(matrix)


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum for matrices [out in]; the step is scaled by sqrt(max(1, out/in))."""

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, decay: float = 0.01
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                velocity = state.setdefault("velocity", torch.zeros_like(p))
                velocity.lerp_(p.grad, 1 - group["momentum"])
                update = orthogonalise(p.grad.lerp(velocity, group["momentum"]))
                p.mul_(1 - group["lr"] * group["decay"])
                p.add_(update, alpha=-group["lr"] * max(1.0, p.shape[0] / p.shape[1]) ** 0.5)


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Matrices inside transformer blocks, and the rest."""
    hidden, rest = [], []
    for name, p in model.named_parameters():
        inside = name.startswith(("blocks.", "layers.")) or ".blocks." in name
        (hidden if inside and p.ndim == 2 else rest).append(p)
    return hidden, rest


class Average:
    """Exponential moving average of a module's floating-point state; early steps weigh more so that it warms up."""

    def __init__(self, module: nn.Module, keep: float) -> None:
        self.keep, self.steps = keep, 0
        self.values = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        self.steps += 1
        keep = min(self.keep, (1 + self.steps) / (10 + self.steps))
        for name, value in module.state_dict().items():
            self.values[name].lerp_(value, 1 - keep)
