"""What products in float8 bring: each alone, the pieces that cast before them, and chunks of a film."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from card_place import GIGA, Place, ms, timed
from torch import Tensor

from gf_core.evaluation.bench import Subject, measure, now, open_film
from gf_core.model import compiled, fp8
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
    """Seconds of each product in bfloat16 and in float8, and of what casts before it.

    Decides: one scale per weight or one per row (whether rows are as fast); `use_fast_accum` (what it spares against
    what it is off); which layers are worth it, where the cast has a pass of its own (o) and where not; whether one
    product for q, k and v is worth its code; whether the compiled pieces come near the card's memory.
    """
    for name, (width, out) in SHAPES.items():
        wide, tall = (side // 96 if place.dry else side for side in (width, out))
        _soft(place, name, lambda name=name, wide=wide, tall=tall: _product(place, name, wide, tall))
    if place.dry:
        compiled.BACKEND = "eager"
    if not compiled.works(place.device, place.dtype):
        raise RuntimeError("no compiler works here")
    here: dict[str, Any] = {"device": place.device, "dtype": place.dtype}
    x, y, broad = (torch.randn(1, _rows(place), side, **here) for side in (1536, 1536, 8960))
    shift, scale = (torch.randn(1, 1, 1, 1536, **here) for _ in "ab")
    made: Any = compiled.fused()
    runs: dict[str, tuple[Callable[[], object], float]] = {  # and bytes read and written per value
        "modulated": (lambda: made._modulated(x, None, None, 1e-6, shift, scale, None), 4),
        "modulated to float8": (lambda: made._modulated(x, None, None, 1e-6, shift, scale, 1.0), 3),
        "added, modulated to float8": (
            lambda: made._added_modulated(x, y, None, None, 1e-6, shift, scale, 1.0),
            7,
        ),
        "GELU in place": (lambda: made._gelu(broad), 4),
        "GELU to float8": (lambda: made._small_gelu(broad, 1.0), 3),
        "cast alone": (lambda: made._small(x, 4.0), 3),
    }
    for name, (run, bytes) in runs.items():
        values = broad.numel() if "GELU" in name else x.numel()
        _soft(place, name, lambda name=name, run=run, size=bytes * values: _piece(place, name, run, size))


def _rows(place: Place) -> int:
    return 16 if place.dry else ROWS


def _piece(place: Place, name: str, run: Callable[[], object], size: float) -> None:
    seconds = _queued(run, place.device)
    place.tell(f"piece: {name}", ms(seconds), f"{size / seconds / 1e12:.2f} TB/s read and written")


def _product(place: Place, name: str, width: int, out: int) -> None:
    device, dtype = place.device, torch.bfloat16
    x, weight = (
        torch.randn(_rows(place), width, device=device),
        torch.randn(out, width, device=device) / width**0.5,
    )
    bias, one = torch.randn(out, device=device).to(dtype), torch.ones(1, device=device)
    exact = F.linear(x, weight, bias.float())
    wide, held = x.to(dtype), weight.to(dtype)
    small, (tensor, scale), (rows, scales) = (
        fp8.to_float8(x, 1.0),
        fp8.quantise(weight, whole=True),
        fp8.quantise(weight),
    )
    ones = torch.ones(len(x), 1, device=device)

    def scaled(by: tuple[Tensor, Tensor], weight: Tensor, bias: Tensor | None, fast: bool) -> Tensor:
        return torch.ops.aten._scaled_mm(
            small, weight.t(), *by, bias=bias, out_dtype=dtype, use_fast_accum=fast
        )

    whole, each = (one, scale[:1]), (ones, scales[None])
    ways: dict[str, Callable[[], Tensor]] = {
        "bfloat16": lambda: F.linear(wide, held, bias),
        "float8": lambda: scaled(whole, tensor, bias, True),
        "float8, no bias": lambda: scaled(whole, tensor, None, True),
        "float8, slow sums": lambda: scaled(whole, tensor, bias, False),
        "float8 by rows": lambda: scaled(each, rows, bias, True),
        "float8 by rows, no bias": lambda: scaled(each, rows, None, True),
        "float8 by rows, slow sums": lambda: scaled(each, rows, bias, False),
    }
    for way, run in ways.items():
        _soft(place, f"{name}, {way}", lambda way=way, run=run: _way(place, name, way, run, exact, bias))


def _way(place: Place, name: str, way: str, run: Callable[[], Tensor], exact: Tensor, bias: Tensor) -> None:
    made = run().float() + (bias if "no bias" in way else 0)
    off = float((made - exact).norm() / exact.norm())
    seconds = _queued(run, place.device)
    shape = f"{exact.shape[0]} rows to {exact.shape[1]}"
    place.tell(f"{name}: {way}", f"{seconds * 1e3:.4f} ms", f"{off:.2%} off; {shape}")


def _queued(run: Callable[[], object], device: torch.device, times: int = 20) -> float:
    """Seconds of a call among many that wait in line, so that the time to launch is hidden."""
    run()

    if device.type == "cpu":  # its products of float8 are slow
        return timed(run, device, 1)

    def many() -> None:
        for _ in range(times):
            run()

    return timed(many, device, 5) / times


def _soft(place: Place, name: str, what: Callable[[], None]) -> None:
    """Tell a failure as a row, and let what comes after go on."""
    try:
        what()
    except Exception as error:  # whatever it is, the table tells it
        place.tell(name, "failed", f"{type(error).__name__}: {error}")


def chunks(place: Place) -> None:
    """A steady chunk, compiled and recorded, in bfloat16 and with products in float8.

    Decides: which layers are in `fp8.GAINS`; what a film takes of the card. Without recording, launches take longer
    than the card does.
    """
    if place.dry:
        compiled.BACKEND = "eager"
    if not compiled.works(place.device, place.dtype):
        raise RuntimeError("no compiler works here")
    subject = replace(place.subject("grounded"), pieces=compiled.fused())
    _soft(place, "bfloat16", lambda: _chunk(place, subject, "bfloat16"))
    exact = _first_latents(subject)
    for name, layers in LAYERS.items():
        _soft(place, name, lambda layers=layers: multiply(subject.model, layers))
        _soft(place, name, lambda name=name: _chunk(place, subject, f"float8: {name}", exact))


def _chunk(place: Place, subject: Subject, name: str, exact: Tensor | None = None) -> None:
    if place.device.type == "cuda":
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
