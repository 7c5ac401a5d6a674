"""Which kernel is fastest for a film's attention on this card: measured once, and remembered in the cache folder.

Only forward, on random numbers of the real shape, the median of a few calls. Where the file is damaged, or the card or
library is new, it is measured again. What was chosen is in a Take's facts (`take.facts.kernels`), so a film that is
gone on with keeps its kernel whatever is measured later (`take.begun`).
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..devices import name_of, now
from ..files.cache import cache_dir, newest, recall, remember
from . import Kernel, sdpa

log = logging.getLogger("grounded")
KEPT = 64
"""Shapes and cards remembered; the oldest go first."""
GAIN = 0.97
"""Another kernel than PyTorch's own choice must take less than this share of its time."""
CALLS, WARM_UP = 5, 2


@dataclass(frozen=True)
class Call:
    """Attention as a film asks for it when its memory is full."""

    device: torch.device
    dtype: torch.dtype
    heads: int
    head_dim: int
    queries: int
    """Tokens of a chunk."""
    keys: int
    """Tokens of all frames in view."""

    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Random q, k, v [1 s h d]."""
        rng = torch.Generator().manual_seed(0)
        sizes = ((1, tokens, self.heads, self.head_dim) for tokens in (self.queries, self.keys, self.keys))
        q, k, v = (torch.randn(size, generator=rng).to(self.device, self.dtype) for size in sizes)
        return q, k, v

    def name(self, kernels: Mapping[str, Kernel]) -> str:
        """What a measurement is remembered under."""
        shape = f"{self.heads}x{self.head_dim} {self.queries}x{self.keys}"
        what = (name_of(self.device), str(torch.__version__), str(self.dtype), shape, "+".join(kernels))
        return " | ".join(what)


def fastest(call: Call, kernels: Mapping[str, Kernel]) -> str:
    """Name of the fastest of `kernels`, the last of which always can; of two alike it is the last."""
    known, name = _read(), call.name(kernels)
    if known.get(name) in kernels:
        return known[name]
    took = _measure(call, kernels)
    *others, own = kernels
    best = min(others, key=lambda other: took.get(other, float("inf")))
    chosen = best if took.get(best, float("inf")) < GAIN * took.get(own, float("inf")) else own
    told = ", ".join(f"{kernel} {seconds * 1000:.2f} ms" for kernel, seconds in took.items())
    log.info("attention was measured on %s: %s; %s is used", name_of(call.device), told, chosen)
    # Not remembered where PyTorch's own did not run: the next film measures again.
    if own in took:
        remember(_file(), newest(known, name, chosen, KEPT), "which attention is fastest")
    return chosen


def deviation(call: Call, kernel: Kernel) -> float:
    """Root mean square error of a kernel against PyTorch's, relative to what is attended to, at this shape."""
    q, k, v = call.inputs()
    exact = sdpa(q, k, v).float()
    return float((kernel(q, k, v).float() - exact).square().mean().sqrt() / exact.square().mean().sqrt())


def _measure(call: Call, kernels: Mapping[str, Kernel]) -> dict[str, float]:
    """Seconds of every kernel that runs; the others are named in the log."""
    took, (q, k, v) = {}, call.inputs()
    for name, kernel in kernels.items():
        try:
            with torch.no_grad():
                seconds = [_seconds(kernel, q, k, v) for _ in range(WARM_UP + CALLS)]
            took[name] = statistics.median(seconds[WARM_UP:])
        except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
            log.info("attention by %s does not run here: %s", name, str(error).partition("\n")[0])
    return took


def _seconds(kernel: Kernel, q: Tensor, k: Tensor, v: Tensor) -> float:
    """Of one call."""
    began = now(q.device)
    kernel(q, k, v)
    return now(q.device) - began


def _file() -> Path:
    return cache_dir("measured") / "attention.json"


def _read() -> dict[str, str]:
    def names(found: Any) -> dict[str, str]:
        if not isinstance(found, dict) or not all(isinstance(chosen, str) for chosen in found.values()):
            raise ValueError("it holds no names")
        return found

    return recall(_file(), names, {}, "which attention is fastest is measured again")
