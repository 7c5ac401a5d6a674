"""Merges low-rank updates into weights while they are loaded: W + strength * (alpha / rank) * B @ A.

Read: PEFT (`lora_A`/`lora_B`), kohya and diffusers (`lora_down`/`lora_up`, `.alpha`), full differences
(`.diff`, `.diff_b`), under original, ComfyUI, diffusers or underscored module names. An update that fits no
weight is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..files.tensors import LazyTensor, open_file
from ..files.unwrap import WRAPPER_FRAGMENTS, unwrap
from ..foreign import read_json
from .keymaps import diffusers_to_original

_PREFIXES = (
    "base_model.model.", "model.diffusion_model.", "diffusion_model.",
    "lora_unet__", "lora_unet_", "lora_transformer_", "transformer.", "unet.", "model.",
)  # fmt: skip
_DOWN = (".lora_A.default.weight", ".lora_A.weight", ".lora_down.weight", ".lora.down.weight")
_UP = (".lora_B.default.weight", ".lora_B.weight", ".lora_up.weight", ".lora.up.weight")
_ENDINGS = {**dict.fromkeys(_DOWN, "down"), **dict.fromkeys(_UP, "up"), ".alpha": "alpha"}
_ENDINGS |= {".diff": "diff", ".diff_b": "diff_b"}


@dataclass
class Update:
    """The change of one module's weight (and bias)."""

    parts: dict[str, LazyTensor] = field(default_factory=dict)
    """`down` [rank, in], `up` [out, rank], `alpha` [], `diff` [out, in], `diff_b` [out]; what there is."""

    def fits(self, weight: tuple[int, ...], bias: tuple[int, ...] | None) -> bool:
        """Whether the parts can be added to a weight and a bias of these shapes."""
        shapes = {name: part.shape for name, part in self.parts.items()}
        if "down" in shapes:
            up, down = shapes["up"], shapes["down"]
            flat = min(len(up), len(down), len(weight)) > 1 and 0 < down[0] == prod(up[1:])
            if not flat or (up[0], prod(down[1:])) != (weight[0], prod(weight[1:])):
                return False
        single = prod(shapes.get("alpha", ())) == 1
        return single and shapes.get("diff", weight) == weight and shapes.get("diff_b", bias) == bias

    def size(self) -> str:
        """What it changes, for messages: `1536 x 1536`, or the shape of every part."""
        up, down = self.parts.get("up"), self.parts.get("down")
        if up is not None and down is not None and len(up.shape) == len(down.shape) == 2:
            return _times((up.shape[0], down.shape[1]))
        return ", ".join(f"{name} {_times(part.shape)}" for name, part in self.parts.items())

    def apply(self, weight: Tensor, strength: float, alpha: float | None) -> Tensor:
        """`weight` with the update added, computed in float32."""
        out = weight.float()
        if "diff" in self.parts:
            out = out + strength * self.parts["diff"].load().float()
        if "down" in self.parts:
            down, up = self.parts["down"].load().float(), self.parts["up"].load().float()
            rank = down.shape[0]
            scale = self.parts["alpha"].load().item() if "alpha" in self.parts else (alpha or rank)
            change = (up.flatten(1) @ down.flatten(1)).reshape(out.shape)
            out = out + strength * float(scale) / rank * change
        return out


@dataclass(frozen=True)
class Lora:
    """A set of updates by original module name."""

    name: str
    """For messages."""
    updates: Mapping[str, Update]
    """Module name, such as `blocks.0.self_attn.q`, to its update."""
    strength: float = 1.0
    """How much of it to add."""
    alpha: float | None = None
    """PEFT's alpha from its configuration; None means equal to the rank, so that the scale is 1."""


def open_lora(path: str | Path, strength: float, module_names: Iterable[str]) -> Lora:
    """Reads a LoRA file or folder; `module_names` are the model's modules, to undo underscored names."""
    file = open_file(path)
    found = unwrap(file.tree)
    tensors = found.lora or found.tensors
    return parse_lora(tensors, file.path.name, strength, module_names, _peft_alpha(file.parts[0]))


def _peft_alpha(file: Path) -> float | None:
    """`lora_alpha` of the adapter_config.json that PEFT writes beside its weights."""
    config = file.with_name("adapter_config.json")
    if not file.name.startswith("adapter_model") or not config.exists():
        return None
    try:
        return float(read_json(config.read_bytes())["lora_alpha"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{config.name} beside {file.name} is damaged", "download it again.") from error


def parse_lora(
    tensors: Mapping[str, LazyTensor],
    name: str,
    strength: float,
    module_names: Iterable[str],
    alpha: float | None = None,
) -> Lora:
    """Sorts `tensors` into updates; raises CheckpointError for tensors that are no update or lack a half."""
    underscored = {module.replace(".", "_"): module for module in module_names}
    updates: dict[str, Update] = {}
    foreign = []
    for key, tensor in tensors.items():
        ending = next((e for e in _ENDINGS if key.endswith(e)), None)
        if ending is None:
            foreign.append(key)
            continue
        module = _module(key.removesuffix(ending), underscored)
        updates.setdefault(module, Update()).parts[_ENDINGS[ending]] = tensor
    if foreign or not updates:
        what = f"tensors that are no LoRA parts: {', '.join(foreign[:3])}" if foreign else "no LoRA parts"
        raise CheckpointError(f"{name} holds {what}", "choose a LoRA file made for Wan 2.1.")
    halves = [m for m, update in updates.items() if ("up" in update.parts) != ("down" in update.parts)]
    if halves:
        raise CheckpointError(f"{name} lacks one half of the LoRA of {halves[0]}", "download the file again.")
    return Lora(name, updates, strength, alpha)


def _module(key: str, underscored: Mapping[str, str]) -> str:
    """Original module name of a LoRA key without its ending."""
    for fragment in WRAPPER_FRAGMENTS:
        key = key.replace(fragment, "")
    for prefix in _PREFIXES:
        key = key.removeprefix(prefix)
    if key in underscored:
        return underscored[key]
    renamed = (
        diffusers_to_original(key) if ".attn" in key or "condition_embedder" in key or "net." in key else None
    )
    return renamed or key


def check_fit(lora: Lora, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises CheckpointError unless every update fits a weight of `shapes` (original tensor names)."""
    unmatched = [module for module in lora.updates if f"{module}.weight" not in shapes]
    if unmatched:
        raise CheckpointError(
            f"{lora.name}: {len(unmatched)} of {len(lora.updates)} updates fit no weight of the model, "
            f"first {', '.join(unmatched[:3])}",
            "this LoRA was made for another model.",
        )
    for module, update in lora.updates.items():
        shape = shapes[f"{module}.weight"]
        if not update.fits(shape, shapes.get(f"{module}.bias")):
            raise CheckpointError(
                f"{lora.name} changes {module} as {update.size()}, the model has {_times(shape)}",
                "this LoRA was made for another size of model (1.3B and 14B do not mix).",
            )


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "one number"


def merged(name: str, tensor: Tensor, loras: Iterable[Lora]) -> Tensor:
    """`tensor` called `name` with every update of it added; float32 when anything was added."""
    module, _, leaf = name.rpartition(".")
    for lora in loras:
        update = lora.updates.get(module)
        if update is None:
            continue
        if leaf == "weight":
            tensor = update.apply(tensor, lora.strength, lora.alpha)
        elif leaf == "bias" and "diff_b" in update.parts:
            tensor = tensor.float() + lora.strength * update.parts["diff_b"].load().to(torch.float32)
    return tensor
