"""The host's attention, lent to the engine: sage, flash and overrides chosen in ComfyUI then apply to films too."""

from __future__ import annotations

import logging
from typing import Any

from torch import Tensor

from ...gf_core.attention import Kernel

_LOG = logging.getLogger("grounded")
OVERRIDE = "optimized_attention_override"


def host_kernel(patcher: Any) -> Kernel | None:
    """Attention of the host for this MODEL; None is PyTorch's own.

    On processors the host's default is a slow path for machines without memory, so it is used there only when a node
    has put an override on the model.
    """
    from comfy.ldm.modules.attention import optimized_attention

    options: dict[str, Any] = patcher.model_options.get("transformer_options", {})
    if patcher.load_device.type == "cpu" and OVERRIDE not in options:
        _LOG.info("attention: PyTorch's own")
        return None
    name = getattr(optimized_attention, "__name__", "its own")
    if OVERRIDE in options:  # another override is another film
        name = f"{name} under {getattr(options[OVERRIDE], '__qualname__', type(options[OVERRIDE]).__name__)}"
    _LOG.info("attention: ComfyUI's (%s)", name)

    def kernel(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        heads = q.shape[2]
        out = optimized_attention(
            q.flatten(2), k.flatten(2), v.flatten(2), heads=heads, transformer_options=options
        )
        return out.unflatten(-1, (heads, -1))

    kernel.__name__ = name
    return kernel
