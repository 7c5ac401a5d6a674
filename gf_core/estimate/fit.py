"""What is done so that a film fits where it is made: chosen before the model is opened, from what is free.

By itself only the first is done. What is free changes from hour to hour, and an edit must find the film that it goes
on: whatever alters pictures is named, and done when it is asked for. In this order, each only where all before it are
not enough:

1. blocks wait in the computer's memory, as few as need be: the same film to the bit, and the copies go on beside the
   work, which takes longer than they do wherever a card is small;
2. pictures are decoded in tiles: the same latents, and seams that nobody sees;
3. keys and values in a byte: another film, half a percent off;
4. weights in a byte: another film, farther off than all others.

On a processor the first is left out, as the computer's memory is the device's. Figures: docs/memory.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..config import PLACES, Fit, Recipe
from ..errors import GroundedError
from ..vae.decoders import spans
from ..words import part_of, size
from .room import MARGIN, ModelCost, parts_of

TILE = 40
"""Side of a tile in latent cells: 320 pixels. At 832x480 half as much again is decoded, at 32 cells twice as much."""
NOTHING = Fit()
FIX = "write off, or some of offload=N, tiles=N, int8, fp8 or fp8-fast with commas between them"


def choose_fit(cost: ModelCost, recipe: Recipe, free: int, *, alter: bool = True) -> Fit:
    """The first that fits `free` bytes; nothing where nothing has to be done, or where all of it is not enough.

    alter: also what makes other pictures than there would be without.
    """
    most = cost.spec.num_layers

    def fits(fit: Fit) -> bool:
        return sum(parts_of(cost.fitted(fit), recipe.fitted(fit), upscale=1).values()) * MARGIN <= free

    for fit in _steps(cost, recipe) if alter else (NOTHING,):
        if fits(fit):
            return fit
        if cost.device == "cpu" or not fits(replace(fit, resident=0)):
            continue
        # The most that may stay.
        return next(kept for count in reversed(range(most)) if fits(kept := replace(fit, resident=count)))
    return NOTHING


def _steps(cost: ModelCost, recipe: Recipe) -> Iterator[Fit]:
    """What is done beside offloading, from nothing to everything."""
    yield (fit := NOTHING)
    if max(cost.cells(recipe.video)) > TILE:
        yield (fit := replace(fit, tile=TILE))
    if not recipe.memory.heads:
        yield (fit := replace(fit, memory="int8"))
    yield replace(fit, weights="fp8")


def read_fit(text: str) -> Fit | None:
    """`offload=18,tiles=32,int8,fp8`, or `off`; None for `auto`. Raises GroundedError: nothing of the kind."""
    if text == "auto":
        return None
    fit = NOTHING
    for part in () if text == "off" else text.split(","):
        name, _, number = part.strip().partition("=")
        count = int(number) if number.isdecimal() else None
        if name == "offload" and (count is not None or not number):
            fit = replace(fit, resident=count or 0)
        elif name == "tiles" and (count is not None or not number):
            fit = replace(fit, tile=TILE if count is None else count)
        elif part.strip() == "int8":
            fit = replace(fit, memory="int8")
        elif part.strip() in ("fp8", "fp8-fast"):
            fit = replace(fit, weights=part.strip())
        else:
            raise GroundedError(f"'{part.strip()}' does nothing to make a film fit", FIX)
    return fit


def write_fit(fit: Fit) -> str:
    """What `read_fit` reads."""
    parts = [] if fit.resident is None else [f"offload={fit.resident}"]
    parts += [f"tiles={fit.tile}"] if fit.tile else []
    parts += ["int8"] if fit.memory == "int8" else []
    parts += [] if fit.weights == "full" else [fit.weights]
    return ",".join(parts) or "off"


def fit_line(cost: ModelCost, recipe: Recipe) -> str:
    """What is done and what it costs: `offload=18: 12 of 30 blocks wait outside, 5.0 GB a chunk are fetched`."""
    fit, parts = cost.fit, list[str]()
    if fit.resident is not None:
        layers = cost.spec.num_layers
        whole = replace(cost, weights=None).fitted(replace(fit, resident=None)).weight_bytes
        none = replace(cost, weights=None).fitted(replace(fit, resident=0)).weight_bytes
        away = max(0, layers - fit.resident)
        fetched = (whole - none) * away // max(1, layers - PLACES) * (len(recipe.sample.steps) + 1)
        parts.append(
            f"{part_of(away, layers, 'block', 'waits', 'wait')} outside, "
            f"{size(fetched)} a chunk are fetched, the same film"
            if away
            else f"all {layers} blocks stay, the same film"
        )
    if fit.tile:
        more = 1.0
        for cells in cost.cells(recipe.video):
            more *= sum(stop - start for start, stop in spans(cells, fit.tile)) / cells
        parts.append(
            f"decoding in tiles of {fit.tile * cost.spatial_stride} pixels, {more:.1f} times the work"
        )
    if fit.memory == "int8" or recipe.memory.stored == "int8":
        parts.append("keys and values in a byte, latents half a percent off")
    if fit.weights != "full":
        multiplied = " and multiplied so" if fit.weights == "fp8-fast" else ""
        parts.append(f"weights in a byte{multiplied}, another film")
    return f"fit     {write_fit(fit)}: {'; '.join(parts)}"
