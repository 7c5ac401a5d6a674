"""Merges low-rank updates into weights while they are loaded: W + strength * (alpha / rank) * B @ A.

Read: PEFT, kohya and diffusers halves with `.alpha`, full differences of weights, biases and modulations, under every
naming of the public trainers. What such a file says of its scale (adapter_config.json, or diffusers' header) is obeyed.
Kinds that are no plain LoRA are named; what the model has no place for is counted and told.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite, prod, sqrt
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import CheckpointError
from ..files.lazy import LazyTensor, TensorFile
from ..files.tensors import open_file, read_settings
from ..files.unwrap import MARKS, unwrap
from ..foreign import read_json
from ..words import counted, part_of, plain
from .keymaps import original_to_diffusers

log = logging.getLogger("grounded")
Shapes = Mapping[str, tuple[int, ...]]

_PREFIXES = (
    "base_model_model_", "model_diffusion_model_", "diffusion_model_", "lora_unet__", "lora_unet_", "lora_transformer_",
    "lora_dit_", "pipe_dit_", "pipe_", "transformer_", "unet_", "dit_", "model_", "module_",
)  # fmt: skip
"""What trainers put before a module's name, with every dot as an underscore; several may stand behind each other."""
_DOWN = (".lora_A.default.weight", ".lora_A.weight", ".lora_down.weight", ".lora.down.weight")
_UP = (".lora_B.default.weight", ".lora_B.weight", ".lora_up.weight", ".lora.up.weight")
_UP_BIAS = (".lora_B.default.bias", ".lora_B.bias", ".lora_up.bias")
_ENDINGS = {**dict.fromkeys(_DOWN, "down"), **dict.fromkeys(_UP, "up"), **dict.fromkeys(_UP_BIAS, "up_bias")}
_ENDINGS |= {".alpha": "alpha", ".diff": "diff", ".diff_b": "diff_b", ".w_norm": "diff", ".b_norm": "diff_b"}
_MODULATION = ".diff_m"
"""A difference of the modulation in the module that is named."""
_KINDS = {
    "dora_scale": "DoRA", "lora_magnitude_vector": "DoRA", "lokr_": "LoKr", "hada_": "LoHa", "oft_": "OFT",
    "lora_mid": "LoRA with a middle factor", "glora": "GLoRA",
}  # fmt: skip
"""What in a tensor's name tells a kind that is not read."""
_TEXT = ("text_encoder", "lora_te", "conditioner.", "cond_stage_model.", "text_model.")
_IMAGE = ("k_img", "v_img", "img_emb", "add_k_proj", "add_v_proj", "image_embedder")


@dataclass
class Update:
    """The change of one module's weight and bias, or of one parameter that is no weight (a modulation)."""

    parts: dict[str, LazyTensor] = field(default_factory=dict)
    """`down` [rank, in], `up` [out, rank], `up_bias` [out], `alpha` [], `diff` [out, in], `diff_b` [out]."""

    def fits(self, weight: tuple[int, ...], bias: tuple[int, ...] | None) -> bool:
        """Whether the parts can be added to a weight and a bias of these shapes."""
        shapes = {name: part.shape for name, part in self.parts.items()}
        if "down" in shapes:
            # [rank, in] and [out, rank], either with the axes of a kernel behind.
            up, down = shapes["up"], shapes["down"]
            flat = min(len(up), len(down), len(weight)) > 1 and 0 < down[0] == prod(up[1:])
            if not flat or (up[0], prod(down[1:])) != (weight[0], prod(weight[1:])):
                return False
        single = prod(shapes.get("alpha", ())) == 1
        biases = all(shapes.get(part, bias) == bias for part in ("diff_b", "up_bias"))
        return single and biases and shapes.get("diff", weight) == weight

    def size(self) -> str:
        """What it changes, for messages: `1536 x 1536`, or the shape of every part."""
        up, down = self.parts.get("up"), self.parts.get("down")
        if up is not None and down is not None and len(up.shape) == len(down.shape) == 2:
            return _times((up.shape[0], down.shape[1]))
        return ", ".join(f"{name} {_times(part.shape)}" for name, part in self.parts.items())

    def factor(self, strength: float, alpha: float | None) -> float:
        """What `up @ down` is multiplied by; `alpha` where the file has none for the module, None for the rank."""
        rank = self.parts["down"].shape[0]
        scale = self.parts["alpha"].load().item() if "alpha" in self.parts else (alpha or rank)
        return strength * float(scale) / rank

    def apply(self, weight: Tensor, strength: float, alpha: float | None) -> Tensor:
        """`weight` with the update added, computed in float32."""
        out = weight.float()
        if "diff" in self.parts:
            out = (strength * self.parts["diff"].load().float()).add_(out)
        if "down" in self.parts:
            down, up = self.parts["down"].load().float(), self.parts["up"].load().float()
            change = (up.flatten(1) @ down.flatten(1)).reshape(out.shape)
            # In place: a large matrix is there twice at most.
            out = change.mul_(self.factor(strength, alpha)).add_(out)
        return out

    def apply_bias(self, bias: Tensor, strength: float, alpha: float | None) -> Tensor:
        """`bias` with the update added, computed in float32."""
        if "diff_b" in self.parts:
            bias = bias.float() + strength * self.parts["diff_b"].load().float()
        if "up_bias" in self.parts:
            bias = bias.float() + self.factor(strength, alpha) * self.parts["up_bias"].load().float()
        return bias


@dataclass(frozen=True)
class Lora:
    """A set of updates, all of which fit the model that it was opened for."""

    name: str
    """For messages."""
    updates: Mapping[str, Update]
    """Module name, such as `blocks.0.self_attn.q`, or name of a parameter that is no weight, to its update."""
    strength: float = 1.0
    """How much of it to add."""
    alpha: float | None = None
    """Alpha from beside the file; None means equal to the rank, so that the scale is 1."""
    alphas: Mapping[str, float] = field(default_factory=dict)
    """Alpha of modules where it is not `alpha`: by pattern, or scaled with the root of the rank."""
    note: str = ""
    """What was left out, and why; empty when all of it fits."""

    def update_of(self, name: str) -> Update | None:
        """What changes the parameter called `name`."""
        module, _, leaf = name.rpartition(".")
        return self.updates.get(module if leaf in ("weight", "bias") else name)

    def alpha_of(self, module: str) -> float | None:
        """Alpha of a module whose update brings none of its own."""
        return self.alphas.get(module, self.alpha)


def open_lora(path: str | Path, strength: float, shapes: Shapes) -> Lora:
    """Reads a LoRA file or folder for a model with parameters of `shapes` (original names); errors as `parse_lora`."""
    file = open_file(path)
    found = unwrap(file.tree)
    return parse_lora(
        found.lora or found.tensors, plain(file.path.name), strength, shapes, settings=_settings_of(file)
    )


def _settings_of(file: TensorFile) -> Mapping[str, Any]:
    """What PEFT writes beside its weights, or diffusers into their header; empty without either."""
    weights, packed = file.parts[0], file.metadata.get("lora_adapter_metadata")
    beside = weights.with_name("adapter_config.json")
    try:
        if weights.name.startswith("adapter_model") and beside.exists():
            config = read_settings(beside)
            return config if config.get("peft_type", "LORA") != "LORA" else {"lora_alpha": None, **config}
        config = read_json(packed) if packed else {}
        return {name.removeprefix("transformer."): value for name, value in config.items()}
    except (ValueError, AttributeError, CheckpointError) as error:
        place = f"{beside.name} beside" if not packed else "what is said of the LoRA in"
        raise CheckpointError(f"{place} {weights.name} is damaged", "download it again.") from error


def parse_lora(
    tensors: Mapping[str, LazyTensor],
    name: str,
    strength: float,
    shapes: Shapes,
    *,
    settings: Mapping[str, Any] | None = None,
) -> Lora:
    """Sorts `tensors` into updates of the model's parameters, whose `shapes` are given by original names.

    settings: `lora_alpha`, `use_rslora` and `alpha_pattern` as PEFT calls them. What the model has no parameter for is
    left out with a line in the log, as long as something fits. Raises CheckpointError for what is no plain LoRA, is
    damaged, holds numbers that are none, or was made for a model of another size.
    """
    if not isfinite(strength):
        raise CheckpointError(f"{name} at the strength {strength}", "give a number.")
    settings = settings or {}
    refuse_kind(name, tensors, settings)
    table = _modules(shapes)
    updates: dict[str, Update] = {}
    called: dict[str, str] = {}
    strange: dict[str, Update] = {}
    for key, tensor in tensors.items():
        if key.endswith(_MODULATION):
            key = f"{key.removesuffix(_MODULATION)}.modulation.diff"
        ending = next((ending for ending in _ENDINGS if key.endswith(ending)), None)
        if ending is None:
            raise CheckpointError(
                f"{name} holds tensors that are no LoRA parts: {plain(key, 80)}",
                "choose a LoRA file made for Wan 2.1.",
            )
        written = key.removesuffix(ending)
        module = _module(written, table)
        called[module or written] = written
        group = updates if module else strange
        group.setdefault(module or written, Update()).parts[_ENDINGS[ending]] = tensor
    if not updates and not strange:
        raise CheckpointError(f"{name} holds no LoRA parts", "choose a LoRA file made for Wan 2.1.")
    for module, update in {**updates, **strange}.items():
        if ("up" in update.parts) != ("down" in update.parts):
            raise CheckpointError(
                f"{name} lacks one half of the LoRA of {plain(module, 80)}", "download the file again."
            )
    note = _left_out(name, updates, strange)
    _check_shapes(name, updates, shapes)
    _check_numbers(name, updates)
    alpha, alphas = _alphas(name, updates, called, settings)
    return Lora(name, updates, strength, alpha, alphas, note)


def refuse_kind(name: str, tensors: Mapping[str, LazyTensor], settings: Mapping[str, Any]) -> None:
    """Raises CheckpointError for other kinds of update, whose parts would be half understood."""
    kind = next((kind for key in tensors for sign, kind in _KINDS.items() if sign in key), None)
    if kind is None and settings.get("use_dora"):
        kind = "DoRA"
    if kind is None and str(settings.get("peft_type", "LORA")).upper() != "LORA":
        kind = plain(settings["peft_type"], 20)
    if kind is not None:
        raise CheckpointError(
            f"{name} is a {kind}, which is not read here; plain LoRA is",
            "use a LoRA of it. Inside ComfyUI, core's own LoRA loader behind Load Model takes most kinds.",
        )


def _modules(shapes: Shapes) -> dict[str, str]:
    """Names of modules and lone parameters with every dot as an underscore, ours and diffusers', to our names."""
    owners = [name.removesuffix(".weight") for name in shapes if not name.endswith(".bias")]
    named = {original_to_diffusers(owner): owner for owner in owners}
    named |= {owner: owner for owner in owners}
    return {name.replace(".", "_"): owner for name, owner in named.items() if name is not None}


def _module(written: str, table: Mapping[str, str]) -> str | None:
    """Our name of what a trainer wrote before the ending: dotted, underscored or half of each, behind any prefixes."""
    key = MARKS.sub("", written).replace(".", "_")
    while key not in table:
        prefix = next((prefix for prefix in _PREFIXES if key.startswith(prefix)), None)
        if prefix is None:
            return None
        key = key.removeprefix(prefix)
    return table[key]


def _left_out(name: str, updates: Mapping[str, Update], strange: Mapping[str, Update]) -> str:
    """The note on what the model has no place for, told once. Raises when that is everything."""
    if not strange:
        return ""
    total, first = len(updates) + len(strange), plain(next(iter(strange)), 80)
    text = [module for module in strange if module.startswith(_TEXT)]
    image = any(part in module for module in strange for part in _IMAGE)
    if not updates:
        made = "the text encoder" if len(text) == total else "another model"
        raise CheckpointError(
            f"{name}: {part_of(total, total, 'update', 'fits', 'fit')} no weight of the model, first {first}",
            f"this LoRA was made for {made}.",
        )
    why = f", {len(text)} of them for the text encoder" if text else ""
    why += "; it was made for image-to-video, whose further layers are not in this model" if image else ""
    first += ", ..." if len(strange) > 1 else ""
    note = f"{name} fits {len(updates)} of {counted(total, 'update')}; left out: {first}{why}"
    log.warning("%s", note)
    return note


def _check_shapes(name: str, updates: Mapping[str, Update], shapes: Shapes) -> None:
    def shape(module: str) -> tuple[int, ...]:
        return shapes[module] if module in shapes else shapes[f"{module}.weight"]

    wrong = [m for m, update in updates.items() if not update.fits(shape(m), shapes.get(f"{m}.bias"))]
    if wrong:
        raise CheckpointError(
            f"{name} changes {wrong[0]} as {updates[wrong[0]].size()}, the model has {_times(shape(wrong[0]))}; "
            f"{part_of(len(updates) - len(wrong), len(updates), 'update', 'fits', 'fit')}",
            "this LoRA was made for another size of model (1.3B and 14B do not mix).",
        )


def _check_numbers(name: str, updates: Mapping[str, Update]) -> None:
    """Raises for NaN and infinity: one of them makes every picture black."""
    for module, update in updates.items():
        for part, tensor in update.parts.items():
            if not tensor.load().float().isfinite().all():
                raise CheckpointError(
                    f"{name} holds numbers that are none (NaN or infinite) in {part} of {module}",
                    "download it again, or ask its maker: its training has failed.",
                )


def _alphas(
    name: str, updates: Mapping[str, Update], called: Mapping[str, str], settings: Mapping[str, Any]
) -> tuple[float | None, dict[str, float]]:
    """Alpha of all modules, and of those that have another; as PEFT computes them."""
    if "lora_alpha" not in settings:
        return None, {}
    try:
        alpha = float(settings["lora_alpha"])
        patterns = {
            key.strip("^$").replace("\\.", "."): float(value)
            for key, value in (settings.get("alpha_pattern") or {}).items()
        }
        # PEFT reads them as regular expressions. Its own files hold names; a stranger's expression may never end.
        if not all(re.fullmatch(r"[\w.]+", key) for key in patterns):
            raise ValueError("patterns that are no names")
        if not all(map(isfinite, (alpha, *patterns.values()))):
            raise ValueError("no numbers")
    except (TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"adapter_config.json beside {name} is damaged", "download it again."
        ) from error
    alphas: dict[str, float] = {}
    for module, update in updates.items():
        # As PEFT does: a pattern is the end of a module's name, from a dot on.
        own = next((v for key, v in patterns.items() if f".{called[module]}".endswith(f".{key}")), alpha)
        rank = update.parts["down"].shape[0] if "down" in update.parts else 1
        # The root of the rank divides there, and `factor` divides by the rank.
        wanted = own * sqrt(rank) if settings.get("use_rslora") else own
        if wanted != alpha:
            alphas[module] = wanted
    return alpha, alphas


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "one number"


def merged(name: str, tensor: Tensor, loras: Iterable[Lora]) -> Tensor:
    """`tensor` called `name` with every update of it added; float32 when anything was added."""
    module, _, leaf = name.rpartition(".")
    for lora in loras:
        update = lora.update_of(name)
        if update is None:
            continue
        add = update.apply_bias if leaf == "bias" else update.apply
        tensor = add(tensor, lora.strength, lora.alpha_of(module))
        if not tensor.float().isfinite().all():
            raise CheckpointError(
                f"{lora.name} at strength {lora.strength:g} makes {name} too large for any number",
                "use less of it, or another file.",
            )
    return tensor
