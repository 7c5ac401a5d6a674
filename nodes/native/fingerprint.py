"""What a host's model is, as a hash: its weights as they were loaded, and every patch that lies on them.

Weights are hashed from evenly spaced samples of each tensor: a 14B in well under a second, and no fine-tune leaves a
quarter of a megabyte of a weight unchanged. Files that Load Model opened are hashed whole, once, by `gf_core`.
"""

from __future__ import annotations

import hashlib
import logging
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ...gf_core.files.fingerprint import combine

log = logging.getLogger("grounded")
SAMPLE, BLOCK = 1 << 18, 1 << 12
"""Bytes read of a large tensor, in blocks of so many."""
_known: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def fingerprint(patcher: Any, weights: str = "") -> str:
    """Hex hash of a ModelPatcher's weights and patches; `weights` is the hash of its file where that is known."""
    weights = weights or _weights(patcher)
    patches = _patches(patcher)
    return combine([weights, patches]) if patches else weights


def _weights(patcher: Any) -> str:
    """Hash of the model's tensors without patches, kept as long as the model lives."""
    found = _known.get(patcher.model)
    if found is None:
        found = _known[patcher.model] = _hash_model(patcher)
    return found


def _hash_model(patcher: Any) -> str:
    # Patches are applied in place while a model is loaded; the originals wait in `backup`.
    originals = {name: entry.weight for name, entry in getattr(patcher, "backup", {}).items()}
    model = patcher.model
    tensors = [*model.named_parameters(), *model.named_buffers()]
    absent = [name for name, tensor in tensors if tensor.is_meta and name not in originals]
    if absent:
        log.warning("%d weights are not in memory: the model is told by their shapes alone", len(absent))
    return combine(_digest(name, originals.get(name, tensor)) for name, tensor in sorted(tensors, key=_name))


def _name(item: tuple[str, Tensor]) -> str:
    return item[0]


def _digest(name: str, tensor: Tensor) -> str:
    """Hash of name, type, shape, and samples of the bytes."""
    digest = hashlib.sha256(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
    try:
        digest.update(_sample(tensor))
    except (RuntimeError, NotImplementedError, TypeError) as error:  # a pack's own kind of tensor
        log.warning("%s of type %s is told by its shape alone: %s", name, type(tensor).__name__, error)
    return digest.hexdigest()


def _sample(tensor: Tensor) -> bytes:
    """Evenly spaced bytes of a tensor; none when it is not in memory."""
    plain = getattr(tensor, "_qdata", tensor).detach()  # packed tensors of the host hold their bytes there
    if type(plain) not in (Tensor, torch.nn.Parameter):
        plain = plain.as_subclass(Tensor)
    if plain.is_meta or not plain.numel():
        return b""
    data = plain.reshape(-1).view(torch.uint8)
    if data.numel() > SAMPLE:
        last, count = data.numel() - BLOCK, SAMPLE // BLOCK
        data = torch.cat([data[(at := last * n // (count - 1)) : at + BLOCK] for n in range(count)])
    return data.contiguous().cpu().numpy().tobytes()


def _patches(patcher: Any) -> str:
    """Hash of LoRAs, merges and replaced modules; empty when there are none."""
    parts = [f"{key} {_describe(value)}" for key, value in sorted(getattr(patcher, "patches", {}).items())]
    parts += [f"object {key}" for key in sorted(getattr(patcher, "object_patches", {}))]
    return combine(parts) if parts else ""


def _describe(value: Any) -> str:
    """A patch in words: tensors by content, adapters by type and weights, functions by name."""
    if isinstance(value, Tensor):
        return _digest("", value)
    if isinstance(value, list | tuple):
        return f"({', '.join(_describe(item) for item in value)})"
    if value is None or isinstance(value, str | int | float | bool):
        return repr(value)
    if hasattr(value, "weights"):  # LoRA and its relatives
        return f"{type(value).__name__}{_describe(value.weights)}"
    return getattr(value, "__qualname__", type(value).__name__)
