"""Muon for the hidden matrices, AdamW for everything else, and a running average of the weights.

Muon: momentum orthogonalised by a Newton-Schulz iteration (Jordan et al. 2024, KellerJordan/Muon); it needs about half
the steps of Adam here. Matrices of one shape go through it as one stack: a few launches in place of thousands.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, _foreach_add_, _foreach_lerp, _foreach_lerp_, _foreach_mul_, nn  # pyright: ignore[reportPrivateImportUsage]
from torch.distributed.tensor import DTensor, distribute_tensor

from .state import learned

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrices: Tensor, iterations: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrices [... out in], roughly: singular values land in 0.7..1.2. bfloat16 inside."""
    x = matrices.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x  # ... n m, n <= m
    # The Frobenius norm bounds the largest singular value, which the iteration wants at 1 or less.
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    a, b, c = NEWTON_SCHULZ
    # a x + b (x x^T) x + c (x x^T)^2 x: a quintic in every singular value, which drives it towards 1.
    for _ in range(iterations):
        gram = x @ x.mT  # ... n n
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).type_as(matrices)


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum for matrices [out in], whole or sharded; the step is scaled by sqrt(max(1, out/in)).

    With `conv`, kernels [out in h w] are read as matrices [out in*h*w]; steps are as large as Adam's at the same rate.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        decay: float = 0.01,
        conv: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "decay": decay, "conv": conv})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            stacks: dict[tuple[int, ...], dict[Tensor, Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    stacks.setdefault(tuple(p.shape), {})[p] = p.grad
            for grads in stacks.values():
                self._update(grads, group)

    def _update(self, grads: dict[Tensor, Tensor], group: dict) -> None:
        """Parameters of one shape, with their gradients."""
        lr, momentum, params = group["lr"], group["momentum"], list(grads)
        for p in params:
            if "velocity" not in self.state[p]:
                self.state[p]["velocity"] = torch.zeros_like(p)
        velocities = [self.state[p]["velocity"] for p in params]
        _foreach_lerp_(_mine(velocities), _mine(grads.values()), 1 - momentum)
        # Nesterov's look ahead, [out in] each; of sharded matrices every rank makes the whole update.
        looks = [_whole(x).flatten(1) for x in _between(list(grads.values()), velocities, momentum)]
        updates = orthogonalise(torch.stack(looks)).view(len(params), *params[0].shape)
        rows, columns = looks[0].shape
        # 0.2 sqrt(longer side): the root mean square of an orthogonal update becomes that of Adam's.
        scale = 0.2 * max(rows, columns) ** 0.5 if group["conv"] else max(1.0, rows / columns) ** 0.5
        if group["decay"]:
            _foreach_mul_(params, 1 - lr * group["decay"])
        _foreach_add_(params, [_like(u, p) for u, p in zip(updates, params)], alpha=-lr * scale)


def _mine(values: Iterable[Tensor]) -> list[Tensor]:
    """What this rank holds of them: all where nothing is shared out. Before torch 2.13 shards have no rule for mixing
    many tensors at once."""
    return [x.to_local() if isinstance(x, DTensor) else x for x in values]


def _between(some: list[Tensor], others: list[Tensor], share: float) -> Sequence[Tensor]:
    """`some` mixed with `others`, anew."""
    if isinstance(some[0], DTensor):
        return [torch.lerp(one, other, share) for one, other in zip(some, others)]
    return _foreach_lerp(some, others, share)


def _whole(x: Tensor) -> Tensor:
    return x.full_tensor() if isinstance(x, DTensor) else x


def _like(x: Tensor, p: Tensor) -> Tensor:
    """x, the same on all ranks, laid out as p is."""
    if isinstance(p, DTensor):
        return distribute_tensor(x, p.device_mesh, p.placements, src_data_rank=None)
    return x


def adamw(
    params: Iterable[nn.Parameter], lr: float, decay: float = 0.0, betas: tuple[float, float] = (0.9, 0.98)
) -> torch.optim.AdamW:
    """AdamW as all recipes use it; one kernel for all parameters where the device has that."""
    params = list(params)
    return torch.optim.AdamW(
        params, lr, betas=betas, weight_decay=decay, fused=params[0].device.type == "cuda"
    )


def prime(optimiser: torch.optim.Optimizer) -> None:
    """Give an optimiser the state that it has after a step, so that a sharded checkpoint can be read into it."""
    # At rate 0 a step moves no weight, not by decay either, and leaves the state of one.
    rates = [group["lr"] for group in optimiser.param_groups]
    for group in optimiser.param_groups:
        group["lr"] = 0.0
        for p in group["params"]:
            p.grad = torch.zeros_like(p)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    for group, rate in zip(optimiser.param_groups, rates):
        group["lr"] = rate


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Matrices inside transformer blocks, and the rest."""
    hidden, rest = [], []
    for name, p in model.named_parameters():
        inside = name.startswith(("blocks.", "layers.")) or ".blocks." in name
        (hidden if inside and p.ndim == 2 else rest).append(p)
    return hidden, rest


class Average:
    """Exponential moving average of what a module learns; sharded where that is.

    begin: updates before it begins, until which it is the present weights. Without, early steps weigh more, so that it
    warms up.
    """

    def __init__(self, module: nn.Module, keep: float, begin: int = 0) -> None:
        self.keep, self.begin, self.steps = keep, begin, 0
        self.values = {name: value.detach().clone() for name, value in learned(module).items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Follow the module's present weights."""
        self.steps += 1
        # Without a beginning 2/11 of the old is kept at the first update, and more with each.
        warm = float(self.steps > self.begin) if self.begin else (1 + self.steps) / (10 + self.steps)
        keep = min(self.keep, warm)
        state = module.state_dict()
        _foreach_lerp_(_mine(self.values.values()), _mine(state[name] for name in self.values), 1 - keep)
