"""Replay of schedule tables and conversions between flow, x0 and noise."""

from __future__ import annotations

import re

import torch

from dev.parity.case import Case
from gf_core.sampling.schedule import TABLE, Schedule, add_noise, flow_to_x0


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
        case.give(f"{name}.training_weights", schedule.loss_weights())
        _give_many_step(case, name, shift)
        case.give(f"{name}.lookup_index", schedule.index(inputs["t"]))
        for key, steps in case.doc["step_lists"].items():
            case.give(f"{name}.warp.{key}", torch.tensor([schedule.warp(s) for s in steps]))
        sigma = schedule.sigma(inputs["t"]).reshape(-1, *[1] * (inputs["x0"].ndim - 1))
        for label, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
            x0, noise, flow = (inputs[n].to(dtype) for n in ("x0", "noise", "flow"))
            noisy = add_noise(x0, noise, sigma)
            case.give(f"{name}.{label}.add_noise", noisy)
            case.give(f"{name}.{label}.flow_to_x0", flow_to_x0(noisy, flow, sigma))
            case.give(
                f"{name}.{label}.x0_to_flow", ((noisy.double() - x0.double()) / sigma.double()).to(dtype)
            )


def _give_many_step(case: Case, name: str, shift: float) -> None:
    """Give the tables of many-step samplers (Euler, and Wan's own in float64) for every recorded number of steps."""
    counts = {int(n) for full in case.wanted for n in re.findall(r"(?:infer|sigmas|unipc)(\d+)", full)}
    for count in counts:
        few = Schedule(shift, count)
        case.give(f"{name}.infer{count}.sigmas", few.sigmas)
        case.give(f"{name}.infer{count}.timesteps", few.timesteps)
        for place, index in (("first", 0), ("mid", count // 2), ("last", count - 1)):
            xt, flow = case.inputs["step_xt"], case.inputs["step_flow"]
            gap = torch.cat([few.sigmas, few.sigmas.new_zeros(1)]).diff()[index]
            case.give(f"{name}.infer{count}.step_{place}", xt + flow * gap)
        case.give(f"{name}.wan21.sampling_sigmas{count}", _shifted(1.0, count, shift))
        solver = _shifted(1 - 1 / TABLE, count, shift)
        case.give(f"{name}.wan21.unipc{count}.sigmas", torch.cat([solver, solver.new_zeros(1)]).float())
        case.give(f"{name}.wan21.unipc{count}.timesteps", (solver * TABLE).long())


def _shifted(top: float, count: int, shift: float) -> torch.Tensor:
    """float64 sigmas of `count` even steps from `top` towards 0, shifted."""
    u = torch.linspace(top, 0.0, count + 1, dtype=torch.float64)[:-1]
    return shift * u / (1 + (shift - 1) * u)
