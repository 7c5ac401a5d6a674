"""Writes one network in every form in which its weights are published; tests read them back, `loading.py` measures it.

As in published files, only the matrices of blocks are stored small; norms, biases, modulations and embeddings stay.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy
import torch
from safetensors.torch import save_file
from torch import Tensor

from gf_core.checkpoints.keymaps import COMFYUI_PREFIX, original_to_diffusers, rename

State = Mapping[str, Tensor]
Parts = dict[str, Tensor]
FP8, INT8 = torch.float8_e4m3fn, torch.int8
SIDE = 32
"""Of the squares of a matrix that have a scale each."""


@dataclass(frozen=True)
class Form:
    """One way to store a network."""

    write: Callable[[Path, State], Path]
    """Writes it into an empty folder; gives what to open."""
    numbers: Callable[[Tensor], Tensor] = lambda value: value
    """What of a matrix of a block comes back, as float32."""
    error: float = 0.0
    """Bound of the network's output against the plain form: largest difference over the largest number."""
    every: bool = False
    """Whether all tensors come back as matrices do; else the others come back as they are."""


def small(name: str, value: Tensor) -> bool:
    """Whether a tensor is one of those that are stored small."""
    return name.startswith("blocks.") and name.endswith(".weight") and value.dim() == 2


def numbers_of(form: Form, state: State) -> Parts:
    """What `form` gives back for `state`, in float32."""
    return {
        name: (form.numbers(v) if form.every or small(name, v) else v).float() for name, v in state.items()
    }


def _single(state: State, folder: Path, **metadata: str) -> Path:
    path = folder / "self_forcing_dmd.safetensors"
    save_file({name: value.contiguous() for name, value in state.items()}, path, metadata)
    return path


def _as(
    dtype: torch.dtype, every: bool = True
) -> tuple[Callable[[Path, State], Path], Callable[[Tensor], Tensor]]:
    def write(folder: Path, state: State) -> Path:
        return _single({n: v.to(dtype) if every or small(n, v) else v for n, v in state.items()}, folder)

    return write, lambda value: value.to(dtype).float()


def _pickled(folder: Path, state: State) -> Path:
    named = {f"model.{name}": value for name, value in state.items()}
    torch.save({"generator_ema": named}, folder / "self_forcing_dmd.pt")
    return folder / "self_forcing_dmd.pt"


def _sharded(folder: Path, state: State) -> Path:
    """In two halves with an index, beside config.json."""
    names, places = list(state), {}
    stem = "diffusion_pytorch_model-0000{}-of-00002.safetensors"
    for n, part in enumerate((names[::2], names[1::2]), 1):
        save_file({name: state[name].contiguous() for name in part}, folder / stem.format(n))
        places |= dict.fromkeys(part, stem.format(n))
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return folder


def _diffusers(folder: Path, state: State) -> Path:
    (folder / "transformer").mkdir()
    _sharded(folder / "transformer", rename(dict(state), original_to_diffusers))
    heads = state["patch_embedding.weight"].shape[0] // 128
    (folder / "transformer" / "config.json").write_text(json.dumps({"num_attention_heads": heads}))
    return folder


def _repackaged(folder: Path, state: State) -> Path:
    return _single({COMFYUI_PREFIX + name: value for name, value in state.items()}, folder)


def _packing(
    pack: Callable[[Tensor], Parts],
    numbers: Callable[[Parts], Tensor],
    error: float,
    beside: Parts,
    prefix: str = "",
) -> Form:
    """A safetensors file whose matrices are stored as the parts that `pack` makes of each."""

    def write(folder: Path, state: State) -> Path:
        out = dict(beside)
        for name, value in state.items():
            parts = pack(value) if small(name, value) else {"weight": value}
            stem = name.removesuffix(".weight") if small(name, value) else ""
            out |= {f"{prefix}{stem}.{end}" if stem else prefix + name: part for end, part in parts.items()}
        return _single(out, folder)

    return Form(write, lambda value: numbers(pack(value)), error)


def _scaled(scale: Tensor, value: Tensor, dtype: torch.dtype) -> Tensor:
    small = value.float() / scale
    return small.round().clamp(-127, 127).to(dtype) if dtype == INT8 else small.to(dtype)


def _marker(**form: object) -> Tensor:
    return torch.tensor(list(json.dumps(form).encode()), dtype=torch.uint8)


def _packer(end: str, dtype: torch.dtype, rows: bool = False, **beside: Tensor) -> Callable[[Tensor], Parts]:
    """One scale for a matrix, or for each of its output `rows`."""

    def pack(value: Tensor) -> Parts:
        sizes = value.float().abs()
        most = sizes.amax(1, keepdim=True) if rows else sizes.max()
        scale = most / (127 if dtype == INT8 else torch.finfo(dtype).max)
        return {
            "weight": _scaled(scale, value, dtype),
            end: scale,
            **{name: part.clone() for name, part in beside.items()},
        }

    return pack


def _blocks(value: Tensor) -> Parts:
    """One scale for a square of a matrix, in int8."""
    high, wide = value.shape
    tiles = value.float().reshape(high // SIDE, SIDE, wide // SIDE, SIDE)
    scale = tiles.abs().amax((1, 3), keepdim=True) / 127
    form = _marker(format="int8_blockwise", group_size=SIDE)
    weight = _scaled(scale, tiles, INT8).reshape(high, wide)
    return {"weight": weight, "weight_scale": scale[:, 0, :, 0].contiguous(), "comfy_quant": form}


def _unblocked(parts: Parts) -> Tensor:
    scales = parts["weight_scale"].repeat_interleave(SIDE, 0).repeat_interleave(SIDE, 1)
    return parts["weight"].float() * scales


def _product(parts: Parts) -> Tensor:
    return parts["weight"].float() * next(
        parts[end] for end in ("scale_weight", "weight_scale") if end in parts
    )


SCALES_AT = {"Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "IQ4_XS": (0,),
             "IQ4_NL": (0,)}  # fmt: skip
"""Where in a block its float16 scales lie, of packings that the package gguf only unpacks."""


def pack(value: Tensor, kind: str) -> numpy.ndarray:
    """Rows of packed bytes. What gguf cannot pack gets blocks of random bytes with small scales: any block is sound."""
    if kind == "Q4_K":
        return _q4_k(value.float().numpy())
    packing = gguf.GGMLQuantizationType[kind]
    if kind not in SCALES_AT:
        return gguf.quantize(value.float().numpy(), packing)
    numbers, size = gguf.GGML_QUANT_SIZES[packing]
    chance = numpy.random.default_rng(int(value.float().abs().sum() * 1000) % 2**31)
    blocks = chance.integers(0, 256, (value.numel() // numbers, size), dtype=numpy.uint8)
    for at in SCALES_AT[kind]:
        blocks[:, at : at + 2] = numpy.full((len(blocks), 1), 2e-5, numpy.float16).view(numpy.uint8)
    return blocks.reshape(len(value), -1)


def _q4_k(values: numpy.ndarray) -> numpy.ndarray:
    """Plain rounding into Q4_K: eight groups of 32, each a 6-bit scale and minimum under two float16 of the block."""
    groups = values.reshape(-1, 8, 32)
    low = numpy.minimum(groups.min(-1), 0)
    step = (groups.max(-1) - low) / 15
    whole = numpy.stack([step.max(-1) / 63, (-low).max(-1) / 63], -1).astype(numpy.float16)
    by = numpy.maximum(whole.astype(numpy.float32), 1e-12)
    sc, mn = (
        numpy.rint(part / by[:, n, None]).clip(0, 63).astype(numpy.uint8)
        for n, part in enumerate((step, -low))
    )
    unit, least = (part * by[:, n, None] for n, part in enumerate((sc, mn)))
    nibbles = numpy.rint((groups + least[..., None]) / numpy.maximum(unit, 1e-12)[..., None]).clip(0, 15)
    nibbles = nibbles.astype(numpy.uint8).reshape(-1, 4, 2, 32)
    bits = numpy.concatenate([
        sc[:, :4] | (sc[:, 4:] >> 4 << 6), mn[:, :4] | (mn[:, 4:] >> 4 << 6), (sc[:, 4:] & 15) | (mn[:, 4:] << 4),
    ], -1)  # fmt: skip
    packed = (nibbles[:, :, 0] | nibbles[:, :, 1] << 4).reshape(-1, 128)
    return numpy.concatenate([whole.view(numpy.uint8), bits, packed], -1).reshape(len(values), -1)


def fits(value: Tensor, kind: str) -> bool:
    """Whether rows are whole blocks; others stay as they are, as in every converter."""
    return value.shape[-1] % gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]][0] == 0


def write_gguf(
    path: Path, state: State, kind: str, *, architecture: str = "wan",
    which: Callable[[str, Tensor], bool] = small, tell: Callable[[gguf.GGUFWriter], object] = lambda writer: None,
) -> Path:  # fmt: skip
    """A GGUF file; `which` tensors are packed as `kind`, the rest float32. tell: adds to its header."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_file_type(0)
    tell(writer)
    for name, value in state.items():
        packing = gguf.GGMLQuantizationType[kind]
        if not which(name, value) or not fits(value, kind):
            writer.add_tensor(name, value.float().numpy())
        elif kind in ("F16", "F32"):
            writer.add_tensor(name, value.numpy().astype(numpy.float16 if kind == "F16" else numpy.float32))
        else:
            writer.add_tensor(name, pack(value, kind), raw_dtype=packing)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _gguf(kind: str, error: float) -> Form:
    packing = gguf.GGMLQuantizationType[kind]

    def numbers(value: Tensor) -> Tensor:
        if not fits(value, kind):
            return value
        if kind in ("F16", "F32"):
            return value.to(torch.float16 if kind == "F16" else torch.float32).float()
        return torch.from_numpy(gguf.dequantize(pack(value, kind), packing)).clone()

    return Form(
        lambda folder, state: write_gguf(folder / "self_forcing_dmd.gguf", state, kind), numbers, error
    )


_E4, _E5 = _marker(format="float8_e4m3fn"), _marker(format="float8_e5m2")
_TENSORWISE = _marker(format="int8_tensorwise")
_COMFY = {}, COMFYUI_PREFIX
_OLD = {"scaled_fp8": torch.zeros(0, dtype=FP8)}
FORMS: dict[str, Form] = {
    "fp32": Form(*_as(torch.float32)),
    "bf16": Form(*_as(torch.bfloat16), 0.004, every=True),
    "fp16": Form(*_as(torch.float16), 0.0006, every=True),
    "pt": Form(_pickled),
    "sharded": Form(_sharded),
    "diffusers": Form(_diffusers),
    "repackaged": Form(_repackaged),
    "fp8_e4m3": Form(*_as(FP8, every=False), 0.005),
    "fp8_e5m2": Form(*_as(torch.float8_e5m2, every=False), 0.008),
    "fp8_scaled": _packing(_packer("scale_weight", FP8), _product, 0.005, _OLD),
    "fp8_comfy": _packing(
        _packer("weight_scale", FP8, comfy_quant=_E4, input_scale=torch.ones(())), _product, 0.005, *_COMFY
    ),
    "fp8_comfy_e5m2": _packing(_packer("weight_scale", torch.float8_e5m2, comfy_quant=_E5), _product, 0.008, *_COMFY),
    "fp8_rows": _packing(_packer("weight_scale", FP8, rows=True), _product, 0.005, {}),
    "int8_rows": _packing(_packer("weight_scale", INT8, rows=True), _product, 0.001, {}),
    "int8_comfy": _packing(_packer("weight_scale", INT8, comfy_quant=_TENSORWISE), _product, 0.001, *_COMFY),
    "int8_blocks": _packing(_blocks, _unblocked, 0.001, *_COMFY),
    "gguf_F32": _gguf("F32", 0.0), "gguf_F16": _gguf("F16", 0.0001), "gguf_BF16": _gguf("BF16", 0.0004),
    "gguf_Q8_0": _gguf("Q8_0", 0.001), "gguf_Q5_1": _gguf("Q5_1", 0.006), "gguf_Q5_0": _gguf("Q5_0", 0.006),
    "gguf_Q4_1": _gguf("Q4_1", 0.012), "gguf_Q4_0": _gguf("Q4_0", 0.012), "gguf_Q4_K": _gguf("Q4_K", 0.012),
    **{f"gguf_{kind}": _gguf(kind, math.inf) for kind in SCALES_AT if kind != "Q4_K"},
}  # fmt: skip
"""Every form by its name. What is packed at random has no bound against the weights it was asked for."""
