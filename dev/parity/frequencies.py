"""Replay of FreeInit's mixing of frequencies; of its filters the library has the one that is its default."""

from __future__ import annotations

from typing import Any

import torch

from dev.parity.case import Case
from gf_core.sampling.noise import low_pass, mix


def serves(case: Case) -> bool:
    """Whether the case is about filters."""
    return isinstance(case.doc.get("filters"), list)


def replay(case: Case) -> None:
    """Give every recorded filter, and the mixture that it makes of its set's two tensors."""
    for told in case.doc["filters"]:
        low, high = (case.inputs[f"set{told['set']}.{name}"] for name in ("x", "noise"))
        mask = _mask(told, low.shape[-3:])
        name = f"set{told['set']}.filter{told['filter']}"
        case.give(f"{name}.lpf", mask)
        case.give(f"{name}.mixed", mix(low, high, mask))


def _mask(told: dict[str, Any], shape: Any) -> torch.Tensor:
    """What passes; the published `ideal` compares a squared distance with 2 * space, and `box` is not symmetric.

    Half of its side is a share of the rows: where frames are taller than wide its first column may be negative, which
    counts from the right.
    """
    space, time, kind = told["d_s"], told["d_t"], told["kind"]
    mask = torch.zeros(shape)
    if kind == "butterworth":
        return low_pass(shape, space, time, told.get("n", 4))
    if space == 0 or time == 0:
        return mask
    if kind == "box":
        half, deep = round(shape[1] // 2 * space), round(shape[0] // 2 * time)
        t, h, w = (size // 2 for size in shape)
        mask[t - deep : t + deep, h - half : h + half, w - half : w + half] = 1
        return mask
    t, h, w = (2 * torch.arange(size, dtype=torch.float64) / size - 1 for size in shape)
    far = (space / time * t)[:, None, None] ** 2 + h[:, None] ** 2 + w**2
    return (torch.exp(-far / (2 * space**2)) if kind == "gaussian" else (far <= 2 * space)).float()
