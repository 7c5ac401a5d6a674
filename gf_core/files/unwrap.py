"""Takes the one network out of a training checkpoint: outer keys, wrapper fragments and prefixes.

Training code saves {"generator": ..., "generator_ema": ..., "critic": ...}; sharding and compilation leave
their own marks inside the names. What remains after this module is one flat mapping.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import CheckpointError
from .lazy import LazyTensor

OUTER_KEYS = ("generator_ema", "generator", "model", "state_dict", "model_state")
"""Groups that hold the network, the preferred first."""
PREFIXES = (
    "model.diffusion_model.", "diffusion_model.", "model.model.", "model.", "net.", "transformer.",
    "first_stage_model.", "vae.", "module.",
)  # fmt: skip
"""What may stand before an inner name, longest reading first; at most one is taken off."""
MARKS = re.compile(r"(?:_fsdp_wrapped_module|_orig_mod|_checkpoint_wrapped_module)\.")
"""What sharding and compilation leave inside names; all occurrences are taken out."""
LORA_KEY = "generator_lora"
_OTHER_GROUPS = ("first_stage_model.", "cond_stage_model.", "conditioner.", "text_encoders.", "vae.", "clip.")
"""Neighbours of the network in an all-in-one file."""


@dataclass(frozen=True)
class Unwrapped:
    """The network of a checkpoint under inner names."""

    tensors: dict[str, LazyTensor]
    """Inner names (any naming scheme) to tensors."""
    outer: str | None = None
    """Outer key that was taken; None for a flat file."""
    available: tuple[str, ...] = ()
    """Outer keys that could have been taken."""
    prefix: str = ""
    """Prefix that was removed from the names."""
    lora: dict[str, LazyTensor] = field(default_factory=dict)
    """Low-rank update stored beside the network."""
    marked: bool = False
    """Sharding or compilation had left marks inside the names."""


def unwrap(tree: Mapping[str, Any], choice: str | None = None) -> Unwrapped:
    """The network in `tree`; `choice` names an outer key when there are several (generator, generator_ema).

    Raises CheckpointError when `choice` is not there, or when a nested file has no known outer key.
    """
    tree = _regroup(tree)
    groups = {name: value for name, value in tree.items() if isinstance(value, Mapping)}
    lora = _flat(groups.pop(LORA_KEY, {}))
    # A LoRA beside the network is an update of it and never a choice of its own, hence popped first.
    available = tuple(name for name in OUTER_KEYS if groups.get(name))
    if choice is not None and choice not in groups:
        raise CheckpointError(
            f"the file has no weights called {choice}",
            f"choose one of {', '.join(groups)}." if groups else "the file is flat: leave the choice empty.",
        )
    # Nested: one group is the network. Flat: the tensors at the top are.
    outer = choice or (available[0] if available else None)
    if outer is not None:
        chosen = _flat(groups[outer])
    else:
        chosen = {name: value for name, value in tree.items() if isinstance(value, LazyTensor)}
        if groups and not chosen and not lora:
            raise CheckpointError(
                f"the file holds {', '.join(list(groups)[:6])}, none of which is known to be the network",
                "save the group that holds the network's weights as a file of its own, or call it model.",
            )
    names, prefix = _strip(list(chosen))
    tensors = {names[name]: value for name, value in chosen.items() if name in names}
    # Without marks and prefix two names may fall together; silently one of them would win.
    if len(tensors) != len(names):
        raise CheckpointError("two tensors of the file have the same inner name", "choose one outer key.")
    marked = any(map(MARKS.search, chosen))
    return Unwrapped(tensors, outer, available, prefix, lora, marked)


def _regroup(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    """Gives a safetensors file with dotted outer keys ('generator_ema.model...') the nesting it had."""
    heads = ("generator_ema.", "generator.")
    nested = any(isinstance(value, Mapping) for value in tree.values())
    if nested or not any(name.startswith(heads) for name in tree):
        return tree
    groups: dict[str, Any] = {}
    for name, value in tree.items():
        outer, _, inner = name.partition(".")
        groups.setdefault(outer, {})[inner or outer] = value
    return groups


def _flat(group: Mapping[str, Any], path: str = "") -> dict[str, LazyTensor]:
    """A group with whatever nesting is left joined by dots."""
    out: dict[str, LazyTensor] = {}
    for name, value in group.items():
        if isinstance(value, Mapping):
            out.update(_flat(value, f"{path}{name}."))
        else:
            out[f"{path}{name}"] = value
    return out


def _strip(names: list[str]) -> tuple[dict[str, str], str]:
    """Map from stored to inner names, without the neighbours in an all-in-one file, and the prefix removed."""
    clean = {name: MARKS.sub("", name) for name in names}
    # Neighbours are left out beside a ComfyUI network only: alone, a file of `vae.` names is a VAE.
    mine = {name: inner for name, inner in clean.items() if not inner.startswith(_OTHER_GROUPS)}
    if not any(inner.startswith("model.diffusion_model.") for inner in mine.values()):
        mine = clean
    # The prefix that most names wear; of equals the longest reading, which stands first. Half is no majority.
    counts = {prefix: sum(inner.startswith(prefix) for inner in mine.values()) for prefix in PREFIXES}
    prefix = max(PREFIXES, key=lambda p: counts[p])
    if 2 * counts[prefix] <= len(mine):
        prefix = ""
    return {name: inner.removeprefix(prefix) for name, inner in mine.items()}, prefix
