"""The kernels there are, as rows: which package brings one, where it runs, and how it is called.

A row is asked once, when a sampler is made; what it chose is said in one line. SDPA comes last and can always. Where
several can and the film's shape is known, the fastest is taken (`fastest`); a name that is asked for goes before that.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..config import MemorySpec, ModelSpec
from ..errors import GroundedError
from ..files.cache import cache_dir
from . import Kernel, Where, sdpa
from .fastest import Call, deviation, fastest

log = logging.getLogger("grounded")


@dataclass(frozen=True)
class Backend:
    """One way to compute attention."""

    name: str
    can: Callable[[torch.device, torch.dtype, int], bool]
    """Whether it runs on this device, in this number type, at this head width. Must not raise."""
    load: Callable[[], Kernel]
    """The kernel; called only where `can` said yes."""
    when: Literal["can", "faster", "asked"] = "can"
    """Taken where it can, only where it was measured to be the fastest, or only by its name: it rounds its inputs."""
    package: str = ""
    """Whose version decides the last bits beside PyTorch's, as pip calls it."""

    @property
    def signed(self) -> str:
        """The name, and behind a space the version of the package."""
        try:
            return f"{self.name} {version(self.package)}" if self.package else self.name
        except PackageNotFoundError:  # it was put there without pip
            return self.name


def _is_hopper_or_later(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0)


def _in_halves(device: torch.device, dtype: torch.dtype, head_dim: int) -> bool:
    """Whether it is a card's call in a type of half the width, of heads that the kernels for those take."""
    return dtype in (torch.bfloat16, torch.float16) and head_dim in (64, 96, 128) and device.type == "cuda"


def _can_flash4(device: torch.device, dtype: torch.dtype, head_dim: int) -> bool:
    return (
        _in_halves(device, dtype, head_dim) and _is_hopper_or_later(device) and _importable("flash_attn.cute")
    )


def _can_sage(device: torch.device, dtype: torch.dtype, head_dim: int) -> bool:
    return _in_halves(device, dtype, head_dim) and _importable("sageattention")


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # its parent package is not there
        return False


def _flash4() -> Kernel:
    # It compiles itself in every process, which takes seconds; with these two it reads back what it made.
    os.environ.setdefault("FLASH_ATTENTION_CUTE_DSL_CACHE_ENABLED", "1")
    os.environ.setdefault("FLASH_ATTENTION_CUTE_DSL_CACHE_DIR", str(cache_dir("flash-attn-4")))
    flash = importlib.import_module("flash_attn.cute").flash_attn_func

    def kernel(q: Tensor, k: Tensor, v: Tensor, *, where: Where | None = None) -> Tensor:
        out = flash(q, k, v)
        return out[0] if isinstance(out, tuple) else out

    return kernel


def _sage() -> Kernel:
    sage = importlib.import_module("sageattention").sageattn

    def kernel(q: Tensor, k: Tensor, v: Tensor, *, where: Where | None = None) -> Tensor:
        return sage(q, k, v, tensor_layout="NHD")

    return kernel


def _one_of_torch(backend: SDPBackend) -> Callable[[], Kernel]:
    """One of the kernels among which PyTorch chooses."""

    def kernel(q: Tensor, k: Tensor, v: Tensor, *, where: Where | None = None) -> Tensor:
        with sdpa_kernel(backend):
            return sdpa(q, k, v)

    return lambda: kernel


BACKENDS: tuple[Backend, ...] = (
    Backend("flash-attn-4", _can_flash4, _flash4, "faster", "flash-attn-4"),
    Backend("sdpa-cudnn", _in_halves, _one_of_torch(SDPBackend.CUDNN_ATTENTION), "faster"),
    Backend("sdpa-flash", _in_halves, _one_of_torch(SDPBackend.FLASH_ATTENTION), "faster"),
    Backend("sage", _can_sage, _sage, "asked"),
    Backend("sdpa", lambda device, dtype, head_dim: True, lambda: sdpa),
)
"""In order of preference where nothing is measured."""


def pick(
    device: torch.device,
    dtype: torch.dtype,
    head_dim: int,
    *,
    host: Kernel | None = None,
    wanted: str = "",
    call: Call | None = None,
) -> Backend:
    """The row that computes: `host`, a kernel lent by the program around us; else `wanted`; else one that can.

    wanted: the name of a row; empty is any. call: the film's attention, of which the fastest row is taken; None is the
    first.

    Raises GroundedError: not the wanted one.
    """
    if host is not None:
        return Backend(getattr(host, "__name__", "the host's"), lambda *_: True, lambda: host)
    found = {row.name: row for row in BACKENDS if row.can(device, dtype, head_dim)}
    if wanted and wanted not in found:
        there = any(row.name == wanted for row in BACKENDS)
        where = f"{device} in {dtype} at head width {head_dim}"
        said = f"does not run on {where}, or lacks its package" if there else "is not known"
        raise GroundedError(f"attention by {wanted} {said}", f"use one that runs here: {', '.join(found)}")
    # Only where there is a choice: measuring makes calls of the real size.
    if not wanted and call is not None and len(able(device, dtype, head_dim)) > 1:
        wanted = fastest(call, _loaded(able(device, dtype, head_dim)))
    return found[wanted] if wanted else next(row for row in found.values() if row.when == "can")


def _loaded(rows: Sequence[Backend]) -> dict[str, Kernel]:
    """The kernels of rows by name, without those whose packages do not load: a line says why."""
    kernels = dict[str, Kernel]()
    for row in rows:
        try:
            kernels[row.name] = row.load()
        except Exception as error:  # whatever a package comes across that lacks another, or fits no other
            why = str(error).partition("\n")[0]
            log.info("attention by %s does not load: %s: %s", row.name, type(error).__name__, why)
    return kernels


def able(device: torch.device, dtype: torch.dtype, head_dim: int) -> list[Backend]:
    """The rows that can, without those that are taken by their name only."""
    return [row for row in BACKENDS if row.when != "asked" and row.can(device, dtype, head_dim)]


def can_run(name: object, device: torch.device, dtype: torch.dtype, head_dim: int) -> bool:
    """Whether a row of this name is there, and runs so."""
    return any(row.name == name and row.can(device, dtype, head_dim) for row in BACKENDS)


def loaded(row: Backend, call: Call | None) -> Kernel:
    """The kernel of a row that `pick` has taken, with one line in the log; `call` as there."""
    kernel = row.load()
    if row.when == "asked" and call is not None:
        log.info("attention: %s, off by %.2g of what it should be", row.name, deviation(call, kernel))
    else:
        log.info("attention: %s", row.name)
    return kernel


def film_call(
    spec: ModelSpec, memory: MemorySpec, cells: tuple[int, int], device: torch.device, dtype: torch.dtype
) -> Call:
    """Attention of a film of `cells` (rows, columns) of latents, once its memory is full."""
    tokens = spec.tokens_per_frame(*cells)
    return Call(device, dtype, spec.num_heads, spec.head_dim, memory.chunk * tokens, memory.slots * tokens)
