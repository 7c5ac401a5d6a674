"""Noise levels of flow matching with a shifted 1000-entry table, and the conversions between x0, flow and noise.

Table and rules follow Self Forcing: sigma = s*u / (1 + (s-1)*u) for u = 1000/1000 .. 1/1000, timestep = 1000*sigma.
A timestep means the nearest table entry, so timestep 0 is the last sigma (0.00498 at shift 5), never 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import SampleSpec
from ..errors import GroundedError

TABLE = 1000


@dataclass(frozen=True)
class Level:
    """One noise level of the few-step sampler; both numbers are exact float32 values."""

    timestep: float
    """What the network is told, 0..1000."""
    sigma: float
    """Share of noise in the latents, 0..1."""


class Schedule:
    """The shifted table of one checkpoint: `sigmas` and `timesteps`, float32 [entries], descending, on the CPU.

    1000 entries are the trained table; fewer are the levels of a many-step sampler.
    """

    def __init__(self, shift: float, entries: int = TABLE) -> None:
        u = torch.linspace(1.0, 0.0, entries + 1)[:-1]  # 0 is no entry
        self.sigmas = shift * u / (1 + (shift - 1) * u)
        self.timesteps = self.sigmas * TABLE

    def index(self, timesteps: Tensor) -> Tensor:
        """Nearest table entry (the first of equals) of each timestep [...]; int64 of the same shape."""
        distance = (self.timesteps.double() - timesteps.double()[..., None]).abs()  # ... entries
        return distance.argmin(-1)

    def sigma(self, timesteps: Tensor) -> Tensor:
        """float32 sigma of each timestep [...]."""
        return self.sigmas[self.index(timesteps)]

    def loss_weights(self) -> Tensor:
        """Bell-shaped training weight of each entry, mean 1, largest at mid-noise; float32 [entries]."""
        bell = torch.exp(-2 * ((self.timesteps - TABLE / 2) / TABLE) ** 2)
        bell = bell - bell.min()
        return bell * (len(bell) / bell.sum())

    def warp(self, step: float) -> float:
        """Timestep at position `step` (1000 = noisiest, 0 = clean) of the table with a final 0 appended."""
        if step != int(step) or not 0 <= step <= TABLE:
            raise GroundedError(
                f"step {step} of a warped step list is not a table position",
                fix="use whole numbers from 0 to 1000, or switch warping off to give raw timesteps",
            )
        return 0.0 if step == 0 else float(self.timesteps[TABLE - int(step)])


def timesteps(sample: SampleSpec) -> list[Level]:
    """The checkpoint's step list as (timestep, sigma) levels, noisiest first."""
    if not sample.steps:
        raise GroundedError("the step list is empty", fix="give at least one step, e.g. 1000")
    schedule = Schedule(sample.shift)
    values = torch.tensor([schedule.warp(s) if sample.warp else s for s in sample.steps], dtype=torch.float32)
    return [Level(t, s) for t, s in zip(values.tolist(), schedule.sigma(values).tolist())]


def _wide(x: Tensor) -> Tensor:
    """The widest float of the device: x0 loses low bits near sigma 1 otherwise; Apple GPUs have no float64."""
    return x.float() if x.device.type == "mps" else x.double()


def flow_to_x0(x: Tensor, flow: Tensor, sigma: float | Tensor) -> Tensor:
    """Clean latents x - sigma*flow, computed in float64 and cast to flow's dtype."""
    scale = _wide(sigma) if isinstance(sigma, Tensor) else sigma
    return (_wide(x) - scale * _wide(flow)).to(flow.dtype)


def add_noise(x0: Tensor, noise: Tensor, sigma: float | Tensor) -> Tensor:
    """(1-sigma)*x0 + sigma*noise, computed in float32 and cast to noise's dtype."""
    if isinstance(sigma, Tensor):
        return ((1 - sigma) * x0.float() + sigma * noise.float()).to(noise.dtype)
    keep = float(torch.tensor(1.0) - torch.tensor(sigma))  # the float32 difference, as the reference forms it
    return (x0.float() * keep + noise.float() * sigma).to(noise.dtype)
