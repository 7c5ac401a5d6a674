"""Compare a replayed training step with its recording: `compare_training.py GOT CASE [--rel R]`.

Each tensor's largest error is taken relative to its largest entry, and each set of gradients as one vector by its
relative norm. A gradient that is all but zero is judged on the scale of its set. Missing tensors, other shapes and
NaN fail.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

TOLERANCE = 1e-4
"""Relative; the recordings differ by 3e-5 between float32 and float64 rotations and time embeddings."""
FLOOR = 1e-6
"""Of a set's largest entry: the least that counts as a tensor's own scale."""


def errors(got: dict[str, Tensor], case: dict[str, Tensor]) -> dict[str, float]:
    """Relative error of every recorded output and of every set of gradients; infinite where nothing comparable is."""
    outputs = {name: want.double() for name, want in case.items() if name.startswith("out.")}
    scale, gap, size = (defaultdict[str, float](float) for _ in range(3))
    for name, want in outputs.items():
        scale[_set(name)] = max(scale[_set(name)], want.abs().max().item())
    found: dict[str, float] = {}
    for name, want in outputs.items():
        mine = got.get(name)
        if mine is None or mine.shape != want.shape or not bool(mine.isfinite().all()):
            found[name] = float("inf")
            continue
        off, own = (mine.double() - want), max(want.abs().max().item(), FLOOR * scale[_set(name)])
        found[name] = off.abs().max().item() / own if own else (float("inf") if off.any() else 0.0)
        gap[_set(name)] += off.square().sum().item()
        size[_set(name)] += want.square().sum().item()
    sets = {name for name in gap if name.endswith(".grad") and size[name]}
    return found | {name: (gap[name] / size[name]) ** 0.5 for name in sets}


def _set(name: str) -> str:
    return name.split(".grad.")[0] + ".grad" if ".grad." in name else name


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare a replayed training step with its recording.")
    parser.add_argument("got", type=Path)
    parser.add_argument("case", type=Path)
    parser.add_argument("--rel", type=float, default=TOLERANCE)
    arguments = parser.parse_args()
    if ".json" in (arguments.got.suffix, arguments.case.suffix):
        parser.error(
            "a replay without numbers says by itself whether all is as recorded; here go two .safetensors"
        )
    found = errors(load_file(arguments.got), load_file(arguments.case))
    for name, error in found.items():
        if not error <= arguments.rel or name.endswith(".grad"):
            print(f"{name:60} {error:10.3g}")
    failed = sum(not error <= arguments.rel for error in found.values())
    print(
        f"{len(found) - failed} of {len(found)} within {arguments.rel:g}, worst {max(found.values(), default=0):.3g}"
    )
    return 1 if failed or not found else 0


if __name__ == "__main__":
    sys.exit(main())
