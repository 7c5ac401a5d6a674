"""Where a part of `card.py` measures, and how it tells what it has found."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from gf_core.evaluation.bench import Subject, now, random_subject
from gf_core.memory.presets import PRESETS
from gf_core.model import compiled

GIGA = 1e9


@dataclass(frozen=True)
class Place:
    """Where and how large: a card, or the rehearsal on the processor."""

    device: torch.device
    dry: bool
    tell: Callable[[str, str, str], None]
    """Takes a row of the table: what, figure, note."""
    keep: Callable[[str, Any], None]
    """Takes numbers for the JSON alone."""
    limit: float
    """Seconds that the part has."""

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32 if self.device.type == "cpu" else torch.bfloat16

    @property
    def shape(self) -> str:
        return "tiny" if self.dry else "1.3b"

    def subject(self, memory: str) -> Subject:
        return random_subject(self.shape, PRESETS[memory], None, self.device, self.dtype)

    def fused(self) -> Subject:
        """A network with the paper's memory whose small operations are compiled. Raises RuntimeError: not here."""
        if self.dry:  # the processor's own compiler takes a minute
            compiled.BACKEND = "eager"
        if not compiled.works(self.device, self.dtype):
            raise RuntimeError("no compiler works here")
        return replace(self.subject("grounded"), pieces=compiled.fused())

    def tried(self, name: str, row: Callable[[], tuple[str, str] | None]) -> None:
        """Tell a row, unless it does so itself, or what went wrong with it: what comes after goes on."""
        try:
            told = row()
        except Exception as error:  # whatever it is, the table tells it
            told = "failed", f"{type(error).__name__}: {error}"
        if told is not None:
            self.tell(name, *told)

    def peak(self) -> str:
        """Most that was in use on the card since the last call; nothing without one."""
        if self.device.type != "cuda":
            return ""
        most = torch.cuda.max_memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        return f"peak {most / GIGA:.2f} GB"


def ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def timed(what: Callable[[], object], device: torch.device, times: int = 10) -> float:
    """Median seconds of a call, after three that warm up."""
    seconds = []
    for _ in range(times + 3):
        began = now(device)
        what()
        seconds.append(now(device) - began)
    return statistics.median(seconds[3:])


def kernels(what: Callable[[], object], device: torch.device) -> list[tuple[float, int, str]]:
    """(seconds, launches, name) of every kernel of a call, the longest first; without a card of torch's operators."""
    cuda = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as seen:
        what()
        now(device)
    rows = [row for row in seen.key_averages() if (row.device_type == DeviceType.CUDA) == cuda]
    spent = [row.self_device_time_total if cuda else row.self_cpu_time_total for row in rows]
    return sorted(((micro / 1e6, row.count, row.key[:160]) for micro, row in zip(spent, rows)), reverse=True)
