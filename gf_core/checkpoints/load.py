"""Fills a Wan transformer with a checkpoint's tensors: strict names and shapes, scales and LoRAs folded in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from ..config import Fit, ModelSpec
from ..devices import require_memory
from ..files.lazy import LazyTensor, check_shapes
from ..model.fp8 import Fp8Product, hold_as_fp8, join, quantise
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
    fit, device, dtype = fit or Fit(), torch.device(device), dtype or default_dtype(device)
    model = build_meta(spec)
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    fix = "use the file as its authors published it, or a version saved whole."
    check_shapes("the transformer", wanted, tensors, fix)
    # Layers change their kind before they have memory.
    held = {} if fit.weights == "full" else hold_as_fp8(model.blocks, products=fit.weights == "fp8-fast")
    layers = {f"blocks.{name}.weight": layer for name, layer in held.items()}
    away = () if fit.resident is None else waiting(spec.num_layers, fit.resident)
    _allocate(model, {*layers, *(f"blocks.{name}.scale" for name in held)}, away, dtype, device)
    state = model.state_dict()
    for name, tensor in tensors.items():
        layer, changed = layers.get(name), any(lora.update_of(name) is not None for lora in loras)
        if layer is None and not changed:
            tensor.copy_to(state[name])
        elif layer is None:
            state[name].copy_(merged(name, tensor.load(), loras))
        elif tensor.rows is not None and not changed:
            # Not rounded again: the file holds such rows already.
            layer.fill(*tensor.rows())
        else:
            layer.fill(*quantise(merged(name, tensor.load(), loras), whole=isinstance(layer, Fp8Product)))
    # Only now, as files name the parts one by one.
    join(model.blocks)
    if away:
        model.blocks = Streamed(model.blocks, away, device)
    return model.requires_grad_(False).eval()


def _allocate(
    model: WanModel, as_built: set[str], away: Sequence[int], dtype: torch.dtype, device: torch.device
) -> None:
    """Give a model on the meta device memory: as `dtype`, but for names in `as_built`, and blocks `away` on the CPU.

    Raises ResourceError: the device has too little.
    """
    wait, wanted = tuple(f"blocks.{number}." for number in away), model.state_dict()
    types = {name: value.dtype if name in as_built else dtype for name, value in wanted.items()}
    require_memory(
        sum(v.numel() * types[name].itemsize for name, v in wanted.items() if not name.startswith(wait)),
        device,
        f"the transformer as {str(dtype).removeprefix('torch.')}",
        "close other programs, choose bfloat16, or use a smaller model.",
    )
    # `empty_like` of a shape on the meta device would bring all of sympy in: a second of every start.
    made = {
        name: torch.empty(v.shape, dtype=types[name], device="cpu" if name.startswith(wait) else device)
        for name, v in wanted.items()
    }
    model.load_state_dict(made, assign=True)
