"""The kernels there are, as rows: which package brings one, where it runs, and how it is called.

A row is asked once, when a sampler is made; what it chose is said in one line. SDPA comes last and can always.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import GroundedError
from . import Kernel, Where, sdpa

log = logging.getLogger("grounded")


@dataclass(frozen=True)
class Backend:
    """One way to compute attention."""

    name: str
    can: Callable[[torch.device, torch.dtype, int], bool]
    """Whether it runs on this device, in this number type, at this head width. Must not raise."""
    load: Callable[[], Kernel]
    """The kernel; called only where `can` said yes."""


def _is_hopper_or_later(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0)


def _can_flash4(device: torch.device, dtype: torch.dtype, head_dim: int) -> bool:
    fits = dtype in (torch.bfloat16, torch.float16) and head_dim in (64, 96, 128)
    return fits and _is_hopper_or_later(device) and _importable("flash_attn.cute")


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # its parent package is not there
        return False


def _flash4() -> Kernel:
    flash = importlib.import_module("flash_attn.cute").flash_attn_func

    def kernel(q: Tensor, k: Tensor, v: Tensor, *, where: Where | None = None) -> Tensor:
        out = flash(q, k, v)
        return out[0] if isinstance(out, tuple) else out

    return kernel


BACKENDS: tuple[Backend, ...] = (
    Backend("flash-attn-4", _can_flash4, _flash4),
    Backend("sdpa", lambda device, dtype, head_dim: True, lambda: sdpa),
)
"""In order of preference."""


def pick(
    device: torch.device,
    dtype: torch.dtype,
    head_dim: int,
    *,
    host: Kernel | None = None,
    rows: Sequence[Backend] = BACKENDS,
) -> Backend:
    """The first row that can; `host`, a kernel lent by the program around us, goes before all.

    rows: the table; tests hand in their own.

    Raises:
        GroundedError: no row can, which SDPA in the table rules out.
    """
    if host is not None:
        return Backend(getattr(host, "__name__", "the host's"), lambda *_: True, lambda: host)
    for row in rows:
        if row.can(device, dtype, head_dim):
            return row
    raise GroundedError(
        f"no attention kernel runs on {device} in {dtype} at head width {head_dim}",
        f"use one of {', '.join(row.name for row in rows)} where it runs",
    )


def choose(device: torch.device, dtype: torch.dtype, head_dim: int, host: Kernel | None = None) -> Kernel:
    """The kernel of the row that `pick` takes, with one line in the log."""
    row = pick(device, dtype, head_dim, host=host)
    log.info("attention: %s", row.name)
    return row.load()
