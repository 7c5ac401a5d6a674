"""Replay of schedule tables and conversions between flow, x0 and noise."""

from __future__ import annotations

import torch

from dev.parity.case import Case
from gf_core.sampling.schedule import Schedule, add_noise, flow_to_x0, x0_to_flow


def serves(case: Case) -> bool:
    """Whether the case is about schedules."""
    return "shifts" in case.doc and "step_lists" in case.doc


def replay(case: Case) -> None:
    """Give every table and conversion for every recorded shift."""
    inputs = case.inputs
    for shift in case.doc["shifts"]:
        schedule, name = Schedule(shift), f"shift{shift:g}"
        case.give(f"{name}.sigmas", schedule.sigmas)
        case.give(f"{name}.timesteps", schedule.timesteps)
        case.give(f"{name}.lookup_index", schedule.index(inputs["t"]))
        for key, steps in case.doc["step_lists"].items():
            case.give(f"{name}.warp.{key}", torch.tensor([schedule.warp(s) for s in steps]))
        sigma = schedule.sigma(inputs["t"]).reshape(-1, *[1] * (inputs["x0"].ndim - 1))
        for label, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
            x0, noise, flow = (inputs[n].to(dtype) for n in ("x0", "noise", "flow"))
            noisy = add_noise(x0, noise, sigma)
            case.give(f"{name}.{label}.add_noise", noisy)
            case.give(f"{name}.{label}.flow_to_x0", flow_to_x0(noisy, flow, sigma))
            case.give(f"{name}.{label}.x0_to_flow", x0_to_flow(noisy, x0, sigma))
