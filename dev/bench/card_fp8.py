"""What products in float8 bring to the chunks of a film."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from card_place import GIGA, Place, ms
from torch import Tensor

from gf_core.evaluation.bench import Subject, measure, now, open_film
from gf_core.model import fp8
from gf_core.sampling.film import film_chunks
from gf_core.sampling.graphs import on_card

LAYERS = {
    "the feed-forward": ("ffn.0", "ffn.2"),
    "and q, k, v": ("self_attn.q", "self_attn.k", "self_attn.v", "cross_attn.q"),
    "all": ("self_attn.o", "cross_attn.o"),
}
"""What is multiplied in float8, one after the other."""


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
    subject = place.fused()
    _soft(place, "bfloat16", lambda: _chunk(place, subject, "bfloat16"))
    exact = _first_latents(subject)
    for name, layers in LAYERS.items():
        _soft(place, name, lambda layers=layers: multiply(subject.model, layers))
        _soft(place, name, lambda name=name: _chunk(place, subject, f"float8: {name}", exact))


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
