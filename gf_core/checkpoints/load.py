"""Fills a Wan transformer with a checkpoint's tensors: strict names and shapes, LoRAs merged on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import psutil
import torch
from torch import Tensor, nn

from ..config import ModelSpec
from ..errors import CheckpointError, ResourceError
from ..files.tensors import LazyTensor
from ..model.wan import WanModel, build_meta
from ..words import exact_size
from .lora import Lora, check_fit, merged


def default_dtype(device: str | torch.device) -> torch.dtype:
    """float32 on the CPU (exact, and fast enough for small models), bfloat16 on accelerators."""
    return torch.float32 if torch.device(device).type == "cpu" else torch.bfloat16


def build_network(
    spec: ModelSpec,
    tensors: Mapping[str, LazyTensor],
    *,
    loras: Sequence[Lora] = (),
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
) -> WanModel:
    """A ready `WanModel` (eval, no gradients) holding `tensors` (original names) as `dtype` on `device`.

    One tensor at a time is read, changed and placed, so the peak is the finished model plus one tensor.
    Raises CheckpointError for missing, unexpected or misshapen tensors and for LoRAs that do not fit,
    ResourceError when the computer has too little memory for it.
    """
    dtype = dtype or default_dtype(device)
    model = build_meta(spec)
    fill(model, tensors, "the transformer", loras=loras, dtype=dtype, device=device)
    return model


def fill(
    model: nn.Module,
    tensors: Mapping[str, LazyTensor],
    what: str,
    *,
    loras: Sequence[Lora] = (),
    dtype: torch.dtype,
    device: str | torch.device = "cpu",
) -> None:
    """Puts `tensors` into a module tree on the meta device; errors as `build_network`."""
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    check_names(wanted, tensors, what)
    for lora in loras:
        check_fit(lora, wanted)
    _check_memory(wanted, dtype, device, what)
    state: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        value = merged(name, tensor.load(), loras)
        # A copy frees the file: mapped weights are unaligned (slower, other rounding) and lock it on Windows.
        state[name] = value.to(device=device, dtype=dtype, copy=True)
    model.load_state_dict(state, strict=True, assign=True)
    model.requires_grad_(False).eval()


def check_names(wanted: Mapping[str, tuple[int, ...]], tensors: Mapping[str, LazyTensor], what: str) -> None:
    """Raises CheckpointError with a few examples unless names and shapes are exactly those of `wanted`."""
    missing = [name for name in wanted if name not in tensors]
    unexpected = [name for name in tensors if name not in wanted]
    misshapen = [n for n, shape in wanted.items() if n in tensors and tensors[n].shape != shape]
    problems = [
        f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen))
        if names
    ]
    if problems:
        raise CheckpointError(
            f"the file does not fit {what}: of {len(wanted)} tensors {', '.join(problems)}",
            "use the file as its authors published it, or a version saved whole.",
        )


def _check_memory(
    wanted: Mapping[str, tuple[int, ...]], dtype: torch.dtype, device: str | torch.device, what: str
) -> None:
    need = sum(torch.Size(shape).numel() for shape in wanted.values()) * dtype.itemsize
    kind = torch.device(device).type
    if kind == "cuda":
        free = torch.cuda.mem_get_info(torch.device(device))[0]
    elif kind == "cpu":
        free = psutil.virtual_memory().available
    else:
        return  # other accelerators do not tell how much is free
    if need > free:
        place = "computer" if kind == "cpu" else "graphics card"
        raise ResourceError(
            f"{what} needs {exact_size(need)} as {str(dtype).removeprefix('torch.')}; "
            f"the {place} has {exact_size(free)} free",
            "close other programs, choose bfloat16, or use a smaller model.",
        )
