"""What products in float8 bring: each alone, the pieces that cast before them, and chunks of a film."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from card_place import GIGA, Place, ms, timed
from torch import Tensor

from gf_core.evaluation.bench import Subject, measure, now, open_film
from gf_core.model import fp8, pieces
from gf_core.sampling.film import film_chunks
from gf_core.sampling.graphs import on_card

ROWS = 4680
SHAPES = {
    "q, k, v, o": (1536, 1536),
    "q, k and v in one": (1536, 4608),
    "ffn.0": (1536, 8960),
    "ffn.2": (8960, 1536),
}
"""Inputs and outputs of the layers of a 1.3B."""
LAYERS = {
    "the feed-forward": ("ffn.0", "ffn.2"),
    "and q, k, v": ("self_attn.q", "self_attn.k", "self_attn.v", "cross_attn.q"),
    "all": ("self_attn.o", "cross_attn.o"),
}
"""What is multiplied in float8, one after the other."""


def products(place: Place) -> None:
    """Seconds of products in bfloat16 and in float8, and of what is fused before them, as the card takes them.

    Decides: whether float8 goes on paying, and with one scale per row.
    """
    for name, (width, out) in SHAPES.items():
        wide, tall = (side // 96 if place.dry else side for side in (width, out))
        place.tried(name, lambda name=name, wide=wide, tall=tall: _product(place, name, wide, tall))
    _pieces(place, place.fused().pieces)


def _pieces(place: Place, made: Any) -> None:
    """Pieces of a chunk."""
    here: dict[str, Any] = {"device": place.device, "dtype": place.dtype}
    x, y, broad = (torch.randn(1, _rows(place), side, **here) for side in (1536, 1536, 8960))
    shift, scale = (torch.randn(1, 1, 1, 1536, **here) for _ in "ab")
    weight, turn = torch.ones(1536, **here), torch.randn(len(x[0]), 1, 64, 2, device=place.device)
    fused, norm = made._run, (None, None, 1e-6)
    runs: dict[str, tuple[Callable[[], object], float]] = {  # and bytes read and written per value
        "modulated": (lambda: fused[pieces._modulated](x, norm, shift, scale, None), 4),
        "added, modulated to float8": (lambda: fused[pieces._added_modulated](x, y, norm, shift, scale, 1.0), 7),
        "normed and turned": (lambda: made.turned(pieces.Fresh(x, weight, 1e-6, 12), turn), 4),
        "GELU in place": (lambda: fused[pieces._gelu](broad), 4),
        "GELU to float8": (lambda: fused[pieces._small_gelu](broad, 1.0), 3),
        "cast alone": (lambda: fused[pieces.to_float8](x, 4.0), 3),
    }  # fmt: skip
    for name, (run, bytes) in runs.items():
        size = bytes * (broad if "GELU" in name else x).numel()
        place.tried(name, lambda name=name, run=run, size=size: _piece(place, name, run, size))


def _rows(place: Place) -> int:
    return 16 if place.dry else ROWS


def _piece(place: Place, name: str, run: Callable[[], object], size: float) -> None:
    seconds = _alone(run, place.device)
    place.tell(
        f"piece: {name}", f"{seconds * 1e3:.4f} ms", f"{size / seconds / 1e12:.2f} TB/s read and written"
    )


def _product(place: Place, name: str, width: int, out: int) -> None:
    device, dtype, rows = place.device, torch.bfloat16, _rows(place)
    x, weight = (torch.randn(side, width, device=device) for side in (rows, out))
    bias, ones = torch.randn(out, device=device).to(dtype), torch.ones(rows, 1, device=device)
    exact = F.linear(x, weight, bias.float())
    wide, held, small = x.to(dtype), weight.to(dtype), fp8.to_float8(x, 1.0)
    (whole, scale), (each, scales) = fp8.quantise(weight, whole=True), fp8.quantise(weight)

    def scaled(weight: Tensor, *by: Tensor) -> Tensor:
        return torch.ops.aten._scaled_mm(
            small, weight.t(), *by, bias=bias, out_dtype=dtype, use_fast_accum=True
        )

    ways: dict[str, Callable[[], Tensor]] = {
        "bfloat16": lambda: F.linear(wide, held, bias),
        "float8": lambda: scaled(whole, ones[0], scale[:1]),
        "float8 by rows": lambda: scaled(each, ones, scales[None]),
    }
    for way, run in ways.items():
        place.tried(f"{name}, {way}", lambda way=way, run=run: _way(place, f"{name}: {way}", run, exact))


def _way(place: Place, name: str, run: Callable[[], Tensor], exact: Tensor) -> None:
    off = float((run().float() - exact).norm() / exact.norm())
    seconds = _alone(run, place.device)
    place.tell(name, f"{seconds * 1e3:.4f} ms", f"{off:.2%} off; {exact.shape[0]} rows to {exact.shape[1]}")


def _alone(run: Callable[[], object], device: torch.device, times: int = 20) -> float:
    """Seconds of a call as a card takes it: many are recorded and replayed, so that none waits for its launch."""
    run()
    if device.type == "cpu":  # its products of float8 are slow
        return timed(run, device, 1)

    def many() -> object:
        return [run() for _ in range(times)]

    replay, _ = on_card()(many)  # type: ignore[arg-type]
    return timed(replay, device, 5) / times


def chunks(place: Place) -> None:
    """A steady chunk, compiled and recorded, in bfloat16 and with products in float8.

    Decides: which layers are in `fp8.GAINS`; what a film takes of the card. Without recording, launches take longer
    than the card does.
    """
    subject = place.fused()
    place.tried("bfloat16", lambda: _chunk(place, subject, "bfloat16"))
    exact = _first_latents(subject)
    for name, layers in LAYERS.items():
        place.tried(name, lambda layers=layers: multiply(subject.model, layers))
        place.tried(name, lambda name=name: _chunk(place, subject, f"float8: {name}", exact))


def _chunk(place: Place, subject: Subject, name: str, exact: Tensor | None = None) -> None:
    if place.device.type == "cuda":
        gc.collect()  # of the film before
        torch.cuda.empty_cache()
        subject = replace(subject, record=on_card())
    place.peak()
    began, count = now(place.device), 4 if place.dry else 12
    told = measure(subject, count)
    whole = now(place.device) - began
    stages, took = told["seconds per chunk"], told["memory"]
    place.keep(name, told)
    chunk = stages["steps"] + stages["clean"]
    weights = sum(parameter.nbytes for parameter in subject.model.parameters())
    note = f"steps {ms(stages['steps'])}, clean {ms(stages['clean'])}; {told['sampling fps']:.1f} pictures a second; "
    note += f"peak {took['peak'] / GIGA:.2f} GB, weights {weights / GIGA:.2f}"
    if place.device.type == "cuda":
        note += f", reserved {torch.cuda.memory_reserved(place.device) / GIGA:.2f}"
    place.tell(f"chunk, {name}", ms(chunk), f"{note}; {whole:.1f} s for {count}")
    if exact is not None:
        made = _first_latents(subject)
        place.tell(
            f"first chunk, {name}", f"{float((made - exact).norm() / exact.norm()):.2%}", "from bfloat16"
        )


@torch.no_grad()
def _first_latents(subject: Subject) -> Tensor:
    torch.manual_seed(0)
    return next(film_chunks(*open_film(subject, 2))).latents.float().clone()


def multiply(model: Any, layers: tuple[str, ...]) -> None:
    """Let some of the blocks' layers multiply in float8, beside those that do already."""
    for block in model.blocks:
        for name in layers:
            home, _, leaf = name.rpartition(".")
            linear: Any = block.get_submodule(home).get_submodule(leaf)
            layer = fp8.Fp8Product(linear, fp8.GAINS[name])
            layer.fill(*fp8.quantise(linear.weight, whole=True))
            setattr(block.get_submodule(home), leaf, layer)
    fp8.join(model.blocks)
