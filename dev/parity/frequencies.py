"""Replay of FreeInit's mixing of frequencies."""

from __future__ import annotations

from dev.parity.case import Case
from gf_core.sampling.frequencies import low_pass, mix


def serves(case: Case) -> bool:
    """Whether the case is about filters."""
    return isinstance(case.doc.get("filters"), list)


def replay(case: Case) -> None:
    """Give every recorded filter, and the mixture that it makes of its set's two tensors."""
    for told in case.doc["filters"]:
        low, high = (case.inputs[f"set{told['set']}.{name}"] for name in ("x", "noise"))
        frames, rows, columns = low.shape[-3:]
        mask = low_pass(told["kind"], (frames, rows, columns), told["d_s"], told["d_t"], told.get("n", 4))
        name = f"set{told['set']}.filter{told['filter']}"
        case.give(f"{name}.lpf", mask)
        case.give(f"{name}.mixed", mix(low, high, mask))
