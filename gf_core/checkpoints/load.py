"""Fills a Wan transformer with a checkpoint's tensors: strict names and shapes, scales and LoRAs folded in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from ..config import Fit, ModelSpec
from ..devices import require_memory
from ..errors import CheckpointError
from ..files.lazy import LazyTensor
from ..model.fp8 import FLOAT8, Fp8Product, hold_as_fp8, join, quantise
from ..model.offload import Streamed, waiting
from ..model.wan import WanModel, build_meta
from .lora import Lora, merged


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
    fit: Fit | None = None,
) -> WanModel:
    """A ready `WanModel` (eval, no gradients) holding `tensors` (original names) as `dtype` on `device`.

    fit: which of its blocks wait in the computer's memory, and how weights are held; None: none, and as `dtype`.

    One tensor at a time is read, changed and placed, so the peak is the finished model plus one tensor. All of the
    model's memory is asked for before: between tensors that stay, what is freed would be lost.
    Raises CheckpointError for missing, unexpected or misshapen tensors, ResourceError when the computer has too
    little memory for it.
    """
    dtype = dtype or default_dtype(device)
    model = build_meta(spec)
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    _check_names(wanted, tensors)
    fit, device = fit or Fit(), torch.device(device)
    held = {} if fit.weights == "full" else hold_as_fp8(model.blocks, products=fit.weights == "fp8-fast")
    small = {f"blocks.{name}": layer for name, layer in held.items()}
    away = () if fit.resident is None else waiting(spec.num_layers, fit.resident)
    home = {f"blocks.{number}." for number in away}
    require_memory(
        sum(
            value.numel() * (value.itemsize if value.dtype == FLOAT8 else dtype.itemsize)
            for name, value in model.state_dict().items()
            if not name.startswith(tuple(home))
        ),
        device,
        f"the transformer as {str(dtype).removeprefix('torch.')}",
        "close other programs, choose bfloat16, or use a smaller model.",
    )
    model.load_state_dict(
        {
            # `empty_like` of a shape on the meta device would bring all of sympy in: a second of every start.
            name: torch.empty(
                value.shape,
                dtype=value.dtype if name.removesuffix(".weight").removesuffix(".scale") in small else dtype,
                device="cpu" if name.startswith(tuple(home)) else device,
            )
            for name, value in model.state_dict().items()
        },
        assign=True,
    )
    state = model.state_dict()
    for name, tensor in tensors.items():
        layer, changed = name.removesuffix(".weight"), any(lora.changes(name) for lora in loras)
        if layer in small and name != layer:
            if tensor.rows is not None and not changed:
                small[layer].fill(*tensor.rows())
            else:
                value = merged(name, tensor.load(), loras) if changed else tensor.load()
                small[layer].fill(*quantise(value, whole=isinstance(small[layer], Fp8Product)))
        elif changed:
            state[name].copy_(merged(name, tensor.load(), loras))
        else:
            tensor.copy_to(state[name])
    join(model.blocks)
    if away:
        model.blocks = Streamed(model.blocks, away, device)
    return model.requires_grad_(False).eval()


def _check_names(wanted: Mapping[str, tuple[int, ...]], tensors: Mapping[str, LazyTensor]) -> None:
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
            f"the file does not fit the transformer: of {len(wanted)} tensors {', '.join(problems)}",
            "use the file as its authors published it, or a version saved whole.",
        )
