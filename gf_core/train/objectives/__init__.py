"""What is learned: an objective takes a batch and gives a loss.

`flow` is flow matching under the engine's memory, `distil` a few-step student of a guided teacher; recipes have more.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """One value of an objective."""

    total: Tensor
    """What is differentiated."""
    parts: dict[str, Tensor]
    """What is logged: detached numbers on the device, so that no step waits for them."""


Objective = Callable[[Any], Loss]
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Precision:
    """Where a run computes and in which type."""

    device: torch.device = CPU
    dtype: torch.dtype = torch.bfloat16

    def autocast(self) -> contextlib.AbstractContextManager:
        """Products in `dtype`; statistics and losses belong outside."""
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)
