"""What saving memory costs: bytes saved, time and error of every way that `--fit` knows.

    python dev/bench/small.py [--chunks N]        some minutes on two idle cores

First the 1.3B at 832x480 in bfloat16 by arithmetic, then the built-in model as it runs here. Errors are of latents
(mean over the chunks of a film that runs freely beside the plain one) and of pictures (the worst chunk, in decibels). A
layer of the 1.3B with random weights tells how far its output moves with weights in a byte.
"""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from torch import Tensor

from gf_core.arguments import Parser
from gf_core.checkpoints.bundle import ModelBundle, load_model
from gf_core.config import Fit, ModelSpec, Recipe, VideoSpec
from gf_core.engine.film import settle
from gf_core.estimate.fit import TILE, write_fit
from gf_core.estimate.room import ModelCost, parts_of
from gf_core.model.fp8 import quantise
from gf_core.sampling.film import Cues, film_chunks

BOARD = """\
@seed 7
a red fox walks right in a meadow at noon | 9s
then: it jumps | 9s
cut: the same red fox dances on a beach at sunset | 9s
then: it strolls to the left | 9s
cut: the same red fox sleeps in the snow at night | 9s
"""
WAYS = (Fit(resident=0), Fit(tile=TILE), Fit(memory="int8"), Fit(weights="fp8"), Fit(weights="fp8-fast"))
ALL = Fit(resident=0, tile=TILE, memory="int8", weights="fp8")
MODEL = ("weights", "memory", "work", "decoder")


def arithmetic() -> None:
    """Bytes by what they are for, of a Wan 1.3B on a card."""
    cost, recipe = ModelCost(ModelSpec(), device="a card"), Recipe()
    print(f"{'1.3B, 832x480, bfloat16':<40}", *(f"{name:>8}" for name in (*MODEL, "in all", "saved")))
    whole = sum(parts_of(cost, recipe, 1).values())
    for fit in (Fit(), *WAYS, ALL):
        parts = parts_of(cost.fitted(fit), recipe.fitted(fit), 1)
        figures = [*(parts[name] for name in MODEL), sum(parts.values()), whole - sum(parts.values())]
        print(f"{write_fit(fit):<40}", *(f"{value / 1e9:>8.2f}" for value in figures))


@torch.no_grad()
def film(
    bundle: ModelBundle, chunks: int, size: VideoSpec | None = None
) -> tuple[list[Tensor], list[Tensor], float]:
    """Latents and pictures of the first chunks, and the seconds they took."""
    made = settle(bundle, BOARD)
    recipe = replace(made.recipe, video=size) if size else made.recipe
    embeds = [bundle.text.encode([segment.prompt])[0][None] for segment in made.plan.segments]
    began = time.perf_counter()
    found = film_chunks(bundle.sampler(recipe), Cues(made.plan, embeds))
    latents = [next(found).latents[0].float() for _ in range(chunks)]
    stream = bundle.codec.decoder()
    return latents, [stream.decode(one) for one in latents], time.perf_counter() - began


def measured(chunks: int) -> None:
    """The built-in model; in tiles only the decoder differs, and one chunk larger than a tile tells."""
    large = VideoSpec(144, 128)
    counts = {None: chunks, large: 1}
    print(
        f"\n{f'built-in model, {chunks} chunks':<40}",
        *(f"{name:>8}" for name in ("time", "latents", "pictures")),
    )
    film(load_model("builtin"), 1)  # the first is slower
    plain = {size: film(load_model("builtin"), count, size) for size, count in counts.items()}
    for fit in (*WAYS, Fit(0, 16, "int8", "fp8")):
        fit = replace(fit, tile=16) if fit.tile else fit
        size = large if fit == Fit(tile=16) else None
        latents, pictures, seconds = film(load_model("builtin", fit=fit), counts[size], size)
        own = plain[size]
        off = [float((a - b).norm() / b.norm()) for a, b in zip(latents, own[0])]
        worst = max(float((a - b).square().mean()) for a, b in zip(pictures, own[1]))
        seen = f"{-10 * torch.log10(torch.tensor(worst)):.1f} dB" if worst else "equal"
        print(f"{write_fit(fit):<40} {seconds / own[2]:>7.2f}x {sum(off) / len(off):>8.2%} {seen:>8}")


@torch.no_grad()
def layer() -> None:
    """The widest layer of the 1.3B: weights in float8, and activations too, as multiplying in float8 wants."""
    rng = torch.Generator().manual_seed(0)
    weight = torch.randn(8960, 1536, generator=rng) / 1536**0.5
    x = torch.randn(256, 1536, generator=rng)
    small, scale = quantise(weight)
    held = small.float() * scale[:, None]
    rows = x.abs().amax(1, keepdim=True) / 448
    rounded = (x / rows).to(torch.float8_e4m3fn).float() * rows
    whole = x @ weight.T
    for name, out in (("weights in float8", x @ held.T), ("and activations", rounded @ held.T)):
        print(f"{name:<40} {float((out - whole).norm() / whole.norm()):>8.2%} off, 1536 -> 8960, random")


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=12)
    args = parser.parse_args()
    arithmetic()
    print()
    layer()
    measured(args.chunks)


if __name__ == "__main__":
    main()
