"""Which file a MODEL came from: found by walking a prompt graph up from the node that uses it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FILE_INPUTS = ("unet_name", "ckpt_name", "model_name", "model")
"""Inputs that hold a model file's name in the loaders of ComfyUI and of common packs."""
LIMIT = 64
"""Nodes between a loader and its user; more is a broken graph."""


def trace_model_file(prompt: Mapping[str, Any] | None, node_id: str) -> str | None:
    """File name (relative, as the loader shows it) behind the `model` input of `node_id`, or None.

    prompt: the graph in API format, as the hidden input PROMPT gives it. LoRA nodes and others with a `model` input are
    passed through.
    """
    graph = prompt or {}
    current: str | None = str(node_id)
    for step in range(LIMIT):
        inputs = graph.get(current or "", {}).get("inputs", {})
        if step:
            names = (inputs.get(name) for name in FILE_INPUTS)
            found = next((name for name in names if isinstance(name, str) and name), None)
            if found is not None:
                return found
        current = _upstream(inputs)
        if current is None:
            return None
    return None


def _upstream(inputs: Mapping[str, Any]) -> str | None:
    """The node that the model comes from: behind `model`, else behind the first input with that word in its name."""
    links = {name: value for name, value in inputs.items() if _is_link(value)}
    names = ["model", *(name for name in links if "model" in name.lower())]
    return next((str(links[name][0]) for name in names if name in links), None)


def _is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[1], int)
