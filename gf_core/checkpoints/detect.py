"""What a set of named tensors is, told from names and shapes alone: family, size, dtype, quantisation.

Whether a Wan transformer is causal cannot be told here: causal files hold the same tensors (see `identify`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch

from ..config import ModelSpec
from ..errors import CheckpointError
from ..files import scales
from ..files.lazy import LazyTensor
from ..files.unwrap import Unwrapped
from ..foreign import numbered, read_json, with_values
from .families import channels_of, family_of
from .keymaps import Scheme, diffusers_to_original, rename, scheme_of

HEAD_WIDTH = 128
"""Width of one attention head in every published Wan; tensors do not tell it."""
METADATA_KEY = "grounded"
"""Header key of this project's own files: JSON with sample, memory, video and model settings."""


@dataclass(frozen=True)
class Detected:
    """What a checkpoint is."""

    family: str
    """Kind of network: a row of `families.KINDS`."""
    scheme: Scheme
    """Naming scheme of the tensors."""
    tensors: dict[str, LazyTensor]
    """Tensors under original names (transformers), else as they were."""
    dtype: torch.dtype
    """Type that most numbers are stored in."""
    parameters: int
    """Numbers in all."""
    spec: ModelSpec | None = None
    """Shape of the transformer; None for other families."""
    quantised: str = ""
    """Quantisation in words; empty when the weights are plain."""
    unread: tuple[str, str] | None = None
    """Why the weights cannot be read here, and what to do; None when they can."""
    channels: int = 0
    """Latent channels of the patch embedding or of the VAE."""


def detect(
    found: Unwrapped, metadata: Mapping[str, str] | None = None, config: Mapping[str, Any] | None = None
) -> Detected:
    """Describes unwrapped tensors; `metadata` and `config` (of a diffusers folder) tell what shapes cannot.

    Raises CheckpointError when it is a Wan transformer whose head count is unknown.
    """
    tensors = dict(found.tensors or found.lora)
    # With the prefix that was taken off, by which ComfyUI's naming is known.
    scheme = scheme_of([found.prefix + name for name in tensors])
    if scheme_of(tensors) == "diffusers" and "scale_shift_table" in tensors:
        tensors, scheme = rename(tensors, diffusers_to_original), "diffusers"
    family = family_of(tensors)
    sizes: Counter[torch.dtype] = Counter()
    for tensor in tensors.values():
        sizes[tensor.dtype] += tensor.numel
    dtype = sizes.most_common(1)[0][0] if sizes else torch.float32
    spec = None
    channels = channels_of(tensors)
    if family == "wan_t2v":
        own = own_settings(metadata or {}).get("model", {})
        spec = read_spec(tensors, own if isinstance(own, dict) else {}, config or {})
    quantised, unread = scales.in_words(tensors), scales.unread(tensors, metadata or {})
    return Detected(family, scheme, tensors, dtype, sum(sizes.values()), spec, quantised, unread, channels)


def own_settings(metadata: Mapping[str, str]) -> dict[str, Any]:
    """This project's settings in a safetensors header; empty for everybody else's files."""
    text = metadata.get(METADATA_KEY)
    if not text:
        return {}
    try:
        settings = read_json(text)
    except ValueError as error:
        raise CheckpointError(
            "the settings in the file's header are damaged", "download the file again."
        ) from error
    return settings if isinstance(settings, dict) else {}


def read_spec(
    tensors: Mapping[str, LazyTensor], own: Mapping[str, Any], config: Mapping[str, Any]
) -> ModelSpec:
    """`ModelSpec` from tensor shapes; head count, text rows and eps from `own` or `config` when there.

    Raises CheckpointError naming what is missing or impossible.
    """
    again = "the file is incomplete or damaged; download it again."

    def shape(name: str, axes: int = 2) -> tuple[int, ...]:
        if name not in tensors:
            raise CheckpointError(f"the transformer has no tensor {name}", again)
        found = tensors[name].shape
        if len(found) != axes or not all(found):
            raise CheckpointError(f"the transformer's {name} has the shape {list(found)}", again)
        return found

    dim, in_dim, *patch = shape("patch_embedding.weight", 5)
    told = _told(own, config)
    heads = told.get("num_heads") or dim // HEAD_WIDTH
    if heads < 1 or dim % heads or dim // heads % 2:
        raise CheckpointError(
            f"a transformer of width {dim} whose number of attention heads is not written in the file",
            f'write {{"model": {{"num_heads": N}}}} under the header key "{METADATA_KEY}", or use a folder '
            "with config.json.",
        )
    try:
        layers = numbered(tensors, "blocks.")
    except ValueError as error:
        raise CheckpointError(f"the transformer is not whole: {error}", again) from error
    spec = ModelSpec(
        dim=dim,
        ffn_dim=shape("blocks.0.ffn.0.weight")[0],
        num_heads=heads,
        num_layers=layers,
        in_dim=in_dim,
        out_dim=shape("head.head.weight")[0] // prod(patch),
        text_dim=shape("text_embedding.0.weight")[1],
        freq_dim=shape("time_embedding.0.weight")[1],
        patch_size=(patch[0], patch[1], patch[2]),
    )
    spec = with_values(spec, {name: told[name] for name in ("text_len", "eps") if name in told})
    if patch[0] != 1 or spec.freq_dim % 2 or spec.text_len < 1 or not spec.eps > 0:
        raise CheckpointError(f"a Wan transformer of a build that cannot be driven: {spec}", again)
    return spec


def _told(own: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Head count, text rows and eps as a header or config.json say them, of the right types."""
    said = {"num_heads": config.get("num_attention_heads"), "eps": config.get("eps")}
    said = {name: value for name, value in said.items() if value is not None}
    try:
        own = {name: own[name] for name in ("num_heads", "text_len", "eps") if name in own}
        with_values(ModelSpec(), {**said, **own})
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"the settings beside the transformer are damaged: {error}", "download the file again."
        ) from error
    return {**said, **own}
