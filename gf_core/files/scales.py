"""Weights that are stored small, each with its scale, as plain numbers: W = stored x scale, computed in float32.

Layouts read, each scale one number, one per output row, or one per block of rows and columns: ComfyUI's `scaled_fp8`
(`X.scale_weight`), its later one (`X.weight_scale`, with `X.comfy_quant` as JSON or a list in the header), and
LightX2V's (`X.weight_scale` per row, fp8 or int8). Scales of inputs are left out: what is multiplied in fp8 has fixed
ones (`model.fp8`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..foreign import read_json
from .gguf_file import INSTALL, MISSING, unpacks
from .lazy import LazyTensor, filled

FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)
SCALES = (".scale_weight", ".weight_scale")
MARKER, FORMAT = "scaled_fp8", ".comfy_quant"
_BESIDE = (".scale_input", ".input_scale", FORMAT)
"""What lies beside a weight and takes no part here."""
_FURTHER = (
    ".weight_scale_2", ".weight_scale_inv", ".pre_quant_scale", ".weight_s_rel", ".weight_s_channel",
    ".weight_codebook", ".SCB", ".absmax", ".quant_map", ".qweight", ".qzeros", ".weight_zero_point", ".zero_point",
)  # fmt: skip
"""Parts of packings that are not read."""
_FORMATS = {
    "float8_e4m3fn": FP8[0],
    "float8_e5m2": FP8[1],
    "int8_tensorwise": torch.int8,
    "int8_blockwise": torch.int8,
}
_HEADER = "_quantization_metadata"
_PIECE = 1 << 20
"""Numbers of a scaled weight that are in float32 at a time."""
_ELSE = "use the bf16, fp16, fp8 or GGUF (Q4_K, Q8_0) file of the same model, or load it inside ComfyUI."


def in_words(tensors: Mapping[str, LazyTensor]) -> str:
    """How the weights are quantised: `fp8`, `scaled fp8`, `scaled int8`, `GGUF Q4_K`; empty for plain ones."""
    sizes = Counter[str]()
    for tensor in tensors.values():
        sizes[tensor.packing] += tensor.numel
    del sizes[""]  # of plain ones
    if sizes:
        return f"GGUF {sizes.most_common(1)[0][0]}"
    dtypes = {tensor.dtype for tensor in tensors.values()}
    if any(_is_four_bit(name, tensor, tensors) for name, tensor in tensors.items()):
        return "NVFP4"
    small = "fp8" if dtypes & set(FP8) else "int8" if torch.int8 in dtypes else ""
    if small and (MARKER in tensors or any(name.endswith(SCALES) for name in tensors)):
        return f"scaled {small}"
    if any(name.endswith(_FURTHER) for name in tensors) or next(_unscaled_integers(tensors), None):
        return "packed integers"
    return small if small == "fp8" else ""


def unread(tensors: Mapping[str, LazyTensor], metadata: Mapping[str, str]) -> tuple[str, str] | None:
    """Why these weights cannot be read, and what to do; None when they can."""
    strange = sorted({str(form) for form in _told(tensors, metadata) if form not in _FORMATS})
    if strange:
        return f"stored as {', '.join(strange[:3])[:80]}, which is not read", _ELSE
    further = next((end for name in tensors for end in _FURTHER if name.endswith(end)), None)
    if further is not None:
        return f"packed in a way that is not read (its weights come with {further[1:]})", _ELSE
    if any(_is_four_bit(name, tensor, tensors) for name, tensor in tensors.items()):
        return "packed as NVFP4, two numbers in a byte, which is not read", _ELSE
    bare = next(_unscaled_integers(tensors), None)
    if bare is not None:
        return f"packed in a way that is not read ({bare[:80]} holds integers without a scale)", _ELSE
    packings = {tensor.packing for tensor in tensors.values()}
    if not unpacks(packings):
        named = ", ".join(sorted(filter(None, packings)))
        return f"whose weights, packed as {named}, {MISSING}", INSTALL
    return None


def unscaled(tensors: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    """`tensors` with each weight times its scale, and what lies beside weights taken out."""
    out: dict[str, LazyTensor] = {}
    for name, tensor in tensors.items():
        if name == MARKER or name.endswith((*SCALES, *_BESIDE)):
            continue
        scale = _scale_of(name, tensors)
        if scale is not None:
            form = tensors.get(f"{name.removesuffix('.weight')}{FORMAT}")
            fill = partial(_multiply, tensor, scale, form)
            rows = partial(_rows, tensor, scale, form) if _in_rows(tensor, scale, form) else None
            load = partial(filled, tensor.shape, fill)
            tensor = LazyTensor(torch.float32, tensor.shape, load, fill, rows=rows)
        out[name] = tensor
    return out


def _scale_of(name: str, tensors: Mapping[str, LazyTensor]) -> LazyTensor | None:
    if not name.endswith(".weight"):
        return None
    found = (tensors.get(f"{name.removesuffix('.weight')}{end}") for end in SCALES)
    return next((scale for scale in found if scale is not None), None)


def _is_four_bit(name: str, tensor: LazyTensor, tensors: Mapping[str, LazyTensor]) -> bool:
    """NVFP4: bytes with an fp8 scale for each 16 numbers of a row."""
    scale = _scale_of(name, tensors) if tensor.dtype == torch.uint8 else None
    return scale is not None and scale.dtype in FP8


def _unscaled_integers(tensors: Mapping[str, LazyTensor]) -> Iterator[str]:
    for name, tensor in tensors.items():
        whole = not tensor.dtype.is_floating_point
        if name.endswith(".weight") and whole and _scale_of(name, tensors) is None:
            yield name


def _told(tensors: Mapping[str, LazyTensor], metadata: Mapping[str, str]) -> Iterator[object]:
    """Names of the formats that tensors and header speak of; a turned one (ConvRot) under a name of its own."""
    said = [_form(tensor) for name, tensor in tensors.items() if name.endswith(FORMAT)]
    try:
        layers = read_json(metadata.get(_HEADER, "{}")).get("layers", {})
        said += list(layers.values())
        for form in said:
            yield "ConvRot" if form.get("convrot") else form.get("format")
    except (ValueError, AttributeError, TypeError):
        yield "something damaged"


def _form(told: LazyTensor) -> dict:
    """What a `comfy_quant` tensor says: JSON in its bytes."""
    if told.dtype != torch.uint8 or told.numel > 4096:
        return {"format": "something damaged"}
    try:
        form = read_json(bytes(told.load().flatten().tolist()))
    except ValueError:
        form = None
    return form if isinstance(form, dict) else {"format": "something damaged"}


def _multiply(weight: LazyTensor, scale: LazyTensor, form: LazyTensor | None, out: Tensor) -> None:
    """The product into `out`, computed in float32 a few rows at a time: freed pieces of any size would stay with us."""
    stored, factor = _stored(weight, form), _factor(weight, scale)
    high, wide = weight.shape[0] // factor.shape[0], math.prod(weight.shape[1:]) // factor.shape[1]
    rows = max(1, _PIECE * weight.shape[0] // max(1, weight.numel))
    whole = torch.arange(weight.shape[0])
    for target, source, at in zip(
        out.view(len(out), -1).split(rows), stored.reshape(len(out), -1).split(rows), whole.split(rows)
    ):
        by = factor[at // high]
        target.copy_(source.float() * (by.repeat_interleave(wide, 1) if factor.shape[1] > 1 else by))


def _stored(weight: LazyTensor, form: LazyTensor | None) -> Tensor:
    stored = weight.load()
    if form is not None and stored.dtype == torch.uint8:  # fp8 behind the type of its bytes
        return stored.view(_FORMATS[_form(form)["format"]])
    return stored


def _in_rows(weight: LazyTensor, scale: LazyTensor, form: LazyTensor | None) -> bool:
    """Whether it is a matrix in float8 (e4m3) with a scale for each row, or one for all."""
    kind = weight.dtype
    if kind == torch.uint8 and form is not None:
        kind = _FORMATS.get(str(_form(form).get("format")))
    return kind == FP8[0] and len(weight.shape) == 2 and scale.numel in (1, weight.shape[0])


def _rows(weight: LazyTensor, scale: LazyTensor, form: LazyTensor | None) -> tuple[Tensor, Tensor]:
    return _stored(weight, form), _factor(weight, scale)[:, 0].expand(weight.shape[0])


def _factor(weight: LazyTensor, scale: LazyTensor) -> Tensor:
    """The scales as [blocks of rows, blocks of columns]."""
    factor = scale.load().float()
    count = factor.numel()
    if weight.shape and weight.numel and count in (1, weight.shape[0]):
        return factor.reshape(-1, 1)
    fits = len(weight.shape) == factor.dim() == 2 and count > 0
    if not fits or any(side % blocks for side, blocks in zip(weight.shape, factor.shape)):
        raise CheckpointError(
            f"a weight of {list(weight.shape)} comes with {count} scales",
            "the file is damaged or of a format that cannot be read yet; use the bf16 version of this model.",
        )
    return factor
