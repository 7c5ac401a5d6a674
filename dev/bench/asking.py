"""Milliseconds that a chunk's calls take of the program itself, whatever a card does with them.

    python dev/bench/asking.py [--layers 30] [--memory grounded]

A network of as many layers whose tokens are so few and narrow that a processor computes next to nothing: what is left
is Python, torch and compiled code's own asking. A card waits for it where it takes longer than computing does; calls
that are recorded are told in one go and do not count here. By turns, one thread, the middle of seven chunks.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace

import torch

from gf_core.arguments import Parser
from gf_core.config import SHAPES, Recipe
from gf_core.memory.presets import PRESETS
from gf_core.model import compiled
from gf_core.model.pieces import DIRECT, PLAIN, Pieces
from gf_core.model.wan import build_meta
from gf_core.sampling.chunkwise import make_sampler
from gf_core.sampling.sampler import Chunk, Sampler

CELLS = 4
"""Latent height and width: four tokens a frame."""
TIMED = 7
"""Chunks that are timed, behind those that fill the memory."""


def opened(layers: int, memory: str, pieces: Pieces) -> Sampler:
    """A sampler of a film that goes on."""
    narrow = {"dim": 48, "ffn_dim": 96, "num_heads": 2, "text_dim": 32, "freq_dim": 32}
    spec = replace(SHAPES["1.3b"], num_layers=layers, **narrow)
    model = build_meta(spec).to_empty(device="cpu").bfloat16()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    sampler = make_sampler(
        model, spec, Recipe(PRESETS[memory]), latent_height=CELLS, latent_width=CELLS, pieces=pieces
    )
    sampler.director.start(torch.zeros(1, 8, spec.text_dim))
    return sampler


def main() -> int:
    parser = Parser(description=__doc__)
    parser.add_argument("--layers", type=int, default=SHAPES["1.3b"].num_layers)
    parser.add_argument("--memory", choices=sorted(PRESETS), default="grounded")
    args = parser.parse_args()
    torch.set_num_threads(1)
    ways = {"operation by operation": PLAIN, "past modules": DIRECT, "compiled": compiled.fused()}
    samplers = {name: opened(args.layers, args.memory, pieces) for name, pieces in ways.items()}
    spent: dict[str, list[float]] = {name: [] for name in ways}
    full = -(-PRESETS[args.memory].slots // PRESETS[args.memory].chunk) + 2
    with torch.no_grad():
        for index in range(full + TIMED):
            for name, sampler in samplers.items():
                noise = torch.randn(sampler.director.shape(PRESETS[args.memory].chunk))
                began = time.perf_counter()
                list(sampler.feed(Chunk(index, lambda step, noise=noise: noise)))
                spent[name].append(time.perf_counter() - began)
    for name, seconds in spent.items():
        print(f"{name:<24}{1000 * statistics.median(seconds[full:]):7.1f} ms a chunk")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
