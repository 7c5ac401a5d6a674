"""Compare a replay with its recorded case: `compare.py GOT.safetensors CASE.safetensors`.

Prints the largest absolute difference per family of tensors beside the tolerance. Missing names, wrong shapes and
NaN are failures. Exits with 1 on any failure.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

DEFAULT_TOLERANCE = 3e-4


@dataclass
class Family:
    """Tensors whose names differ in numbers only."""

    tolerance: float
    tensors: int = 0
    worst: float = 0.0
    failures: list[str] = field(default_factory=list)


def tolerance_of(name: str, tolerance: dict) -> float:
    """Largest difference allowed for an output, from the JSON's `tolerance`."""
    if "max_abs" in tolerance:
        return tolerance["max_abs"]
    own = tolerance.get(name.rpartition(".")[2])
    if isinstance(own, float):
        return own
    if "lookup_index" in name:
        return 0.0
    if "bf16" in name:
        return 2.0**-8  # of the value: one bfloat16 step
    if "timesteps" in name or "warp" in name:
        return tolerance.get("timesteps", DEFAULT_TOLERANCE)
    if "sigmas" in name or "training_weights" in name:
        return tolerance.get("sigmas", DEFAULT_TOLERANCE)
    return tolerance.get("f32_conversions_max_abs", DEFAULT_TOLERANCE)


def difference(got: Tensor, want: Tensor, name: str) -> float:
    """Largest absolute difference (relative for bfloat16 conversions); NaN or another shape is infinite."""
    if got.shape != want.shape or got.dtype.is_floating_point != want.dtype.is_floating_point:
        return float("inf")
    got, want = got.double(), want.double()
    if not bool(torch.isfinite(got).all()):
        return float("inf")
    gap = (got - want).abs()
    if "bf16" in name:
        gap = gap / want.abs().clamp(min=2.0**-7)
    return gap.max().item() if gap.numel() else 0.0


def compare(got_path: Path, case_path: Path) -> dict[str, Family]:
    """Families of the case's `out.*` with their worst difference and failures."""
    tolerance = json.loads(case_path.with_suffix(".json").read_text()).get("tolerance", {})
    families: dict[str, Family] = {}
    with safe_open(case_path, "pt") as case, safe_open(got_path, "pt") as got:
        present = set(got.keys())
        for name in sorted(filter(lambda n: n.startswith("out."), case.keys())):
            family = families.setdefault(re.sub(r"\d+", "#", name), Family(tolerance_of(name, tolerance)))
            family.tensors += 1
            if name not in present:
                family.failures.append(f"{name}: missing")
                continue
            gap = difference(got.get_tensor(name), case.get_tensor(name), name)
            family.worst = max(family.worst, gap)
            if not gap <= family.tolerance:
                family.failures.append(f"{name}: {gap:.3g}")
    return families


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare a replay with its recorded case.")
    parser.add_argument("got", type=Path)
    parser.add_argument("case", type=Path)
    arguments = parser.parse_args()
    families = compare(arguments.got, arguments.case)
    print(f"{'family':50} {'tensors':>7} {'worst':>10} {'allowed':>10}")
    for name, family in families.items():
        verdict = "" if not family.failures else f"  FAIL ({len(family.failures)}): {family.failures[0]}"
        print(f"{name:50} {family.tensors:7d} {family.worst:10.3g} {family.tolerance:10.3g}{verdict}")
    failed = sum(len(family.failures) for family in families.values())
    total = sum(family.tensors for family in families.values())
    print(f"{total - failed} of {total} tensors within tolerance")
    return 1 if failed or not total else 0


if __name__ == "__main__":
    sys.exit(main())
