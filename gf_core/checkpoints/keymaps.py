"""Tensor names of one Wan transformer in the naming schemes in circulation, as tables.

`original` is the naming of Wan-Video/Wan2.1 and of every Self Forcing descendant. `comfyui` is the same
behind a prefix. `diffusers` renames modules one for one: no transposes, no splits. The only trap is that
`norm2` and `norm3` trade places: the affine norm before cross-attention is `norm3` in the original and
`norm2` in diffusers. Tables are per module, so a name is matched whole and never by substring.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, TypeVar

Scheme = Literal["original", "comfyui", "diffusers"]
T = TypeVar("T")

COMFYUI_PREFIX = "model.diffusion_model."

_GLOBAL_MODULES = {
    "patch_embedding": "patch_embedding",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "head.modulation": "scale_shift_table",
    "head.head": "proj_out",
    "img_emb.proj.0": "condition_embedder.image_embedder.norm1",
    "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
    "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
    "img_emb.proj.4": "condition_embedder.image_embedder.norm2",
    "img_emb.emb_pos": "condition_embedder.image_embedder.pos_embed",
}

_BLOCK_MODULES = {
    "modulation": "scale_shift_table",
    "norm3": "norm2",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
    "cross_attn.k_img": "attn2.add_k_proj",
    "cross_attn.v_img": "attn2.add_v_proj",
    "cross_attn.norm_k_img": "attn2.norm_added_k",
}
for _ours, _theirs in (("self_attn", "attn1"), ("cross_attn", "attn2")):
    for _part in "qkv":
        _BLOCK_MODULES[f"{_ours}.{_part}"] = f"{_theirs}.to_{_part}"
    _BLOCK_MODULES[f"{_ours}.o"] = f"{_theirs}.to_out.0"
    for _part in ("norm_q", "norm_k"):
        _BLOCK_MODULES[f"{_ours}.{_part}"] = f"{_theirs}.{_part}"

_GLOBAL_BACK = {theirs: ours for ours, theirs in _GLOBAL_MODULES.items()}
_BLOCK_BACK = {theirs: ours for ours, theirs in _BLOCK_MODULES.items()}


def _translate(name: str, whole: Mapping[str, str], per_block: Mapping[str, str]) -> str | None:
    """`name` with its longest leading module (behind `blocks.N.`) replaced by the table, or None."""
    block = re.match(r"blocks\.\d+\.", name)
    head, table = (block[0], per_block) if block else ("", whole)
    parts = name.removeprefix(head).split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        if module in table:
            return head + ".".join([table[module], *parts[length:]])
    return None


def original_to_diffusers(name: str) -> str | None:
    """The diffusers name of an original name; None for a name that is not of a Wan transformer."""
    return _translate(name, _GLOBAL_MODULES, _BLOCK_MODULES)


def diffusers_to_original(name: str) -> str | None:
    """The original name of a diffusers name; None for a name that is not of a Wan transformer."""
    return _translate(name, _GLOBAL_BACK, _BLOCK_BACK)


def scheme_of(names: Iterable[str]) -> Scheme:
    """Naming scheme of a set of tensor names (`comfyui` when the ComfyUI prefix is there)."""
    names = list(names)
    if any(name.startswith(COMFYUI_PREFIX) for name in names):
        return "comfyui"
    return "diffusers" if any("condition_embedder." in name for name in names) else "original"


def experts(tensors: Mapping[str, T]) -> tuple[dict[str, T], dict[str, T]]:
    """The weights that denoise, and those that write the memory: none, or a whole second set (SGF+).

    The second set's names are those of the first with `memory_` before one part; what it lacks it shares.
    """
    first, second = {}, {}
    for name, tensor in tensors.items():
        plain = re.sub(r"(^|\.)memory_", r"\1", name)
        (first if plain == name else second)[plain] = tensor
    return first, {**first, **second} if second else {}


def rename(tensors: Mapping[str, T], translate: Callable[[str], str | None]) -> dict[str, T]:
    """The same values under translated names; those that `translate` does not know are kept as they are.

    >>> rename({"blocks.0.norm2.weight": 1}, diffusers_to_original)
    {'blocks.0.norm3.weight': 1}
    """
    return {translate(name) or name: value for name, value in tensors.items()}
