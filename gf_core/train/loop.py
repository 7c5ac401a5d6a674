"""The loop of every training: by the clock or by steps, resumable, on any device and any number of ranks."""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.tensor import DTensor

from ..errors import CheckpointError, GroundedError
from . import state
from .journal import open_log
from .objectives import Objective, Precision
from .optim import Average, prime
from .ranks import Ranks

log = logging.getLogger("grounded")

SILENCE = 20.0
"""Seconds without a line after which the log says how far a run is."""


@dataclass(frozen=True)
class Pace:
    """How long a run lasts and how its learning rate goes; the run ends with whichever limit comes first."""

    minutes: float = math.inf
    """Wall time over all resumes."""
    steps: float = math.inf
    """Optimiser steps over all resumes."""
    rate: float = 1.0
    """Scale of all learning rates."""
    warm: int = 50
    """Steps until the full rate."""
    decay_from: float = 0.4
    """Share of the run after which the rate falls linearly to zero; 1 lets it stay."""
    clip: float = 1.0
    """Largest norm of all gradients together."""
    average: float = 0.998
    """Decay of the running average of weights."""
    average_from: int = 0
    """Updates of the averaged module before the average begins (`optim.Average`)."""
    accumulate: int = 1
    """Batches whose mean gradient makes a step."""
    report: int = 20
    """Steps between two lines of the log."""
    save_seconds: float = 120.0
    """Between two checkpoints."""

    def lasting(self, minutes: float | None) -> Pace:
        """The same for other minutes; unchanged without."""
        return self if minutes is None else replace(self, minutes=minutes)

    def progress(self, step: int, seconds: float) -> float:
        """Share of the run that is done; 1 or more at its end."""
        return max(step / self.steps, seconds / (60 * self.minutes) if self.minutes > 0 else 1.0)

    def factor(self, step: int, seconds: float) -> float:
        """Scale of the learning rates at this point."""
        left = (1 - self.progress(step, seconds)) / (1 - self.decay_from) if self.decay_from < 1 else 1.0
        return self.rate * min(1.0, (step + 1) / self.warm) * max(0.0, min(1.0, left))


class Carried(Protocol):
    """What a run goes on from beside its weights, such as the place in the data (`order.Order`)."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@contextlib.contextmanager
def stopping() -> Iterator[list[int]]:
    """Inside the block Ctrl-C is put into the list, to act on where nothing is lost; a second one acts at once."""
    asked: list[int] = []
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    ):
        yield asked
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        log.info(
            "stopping behind this step; Ctrl-C again stops now, and what came since the last checkpoint is lost"
        )

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


class Run:
    """Optimisers, clock, log, average and checkpoint of one training.

    name: what the log calls it. modules: everything with weights; the average is of the first. precision: where it
    runs. path: the checkpoint, read if it is there; None keeps nothing. carried: what else is kept in it by name, the
    same on all ranks. own: that of this rank alone, such as the film that it is in the middle of. begun: what decides
    what the run comes to, in words by name (`state.told`); a checkpoint that was begun with something else is refused.
    report: is told the means of the last steps, by name.
    """

    def __init__(
        self,
        name: str,
        modules: Mapping[str, nn.Module],
        optimisers: Sequence[torch.optim.Optimizer],
        pace: Pace,
        precision: Precision,
        path: Path | None = None,
        ranks: Ranks | None = None,
        carried: Mapping[str, Carried] | None = None,
        own: Carried | None = None,
        begun: Mapping[str, str] | None = None,
        report: Callable[[int, dict[str, float]], None] | None = None,
    ) -> None:
        self.name, self.modules, self.optimisers, self.pace = name, dict(modules), optimisers, pace
        self.device, self.path, self.ranks = precision.device, path, ranks or Ranks()
        self.carried, self.own, self.report = dict(carried or {}), own, report
        self.begun = dict(begun or {})
        self.main = next(iter(self.modules.values()))
        self.average = Average(self.main, pace.average, pace.average_from)
        self.params = [p for o in optimisers for group in o.param_groups for p in group["params"]]
        self.step, self.seconds = 0, 0.0
        for group in (group for o in optimisers for group in o.param_groups):
            group.setdefault("initial_lr", group["lr"])
        found = state.find(path) if path else None
        if found:
            self._go_on(found)
        for module in self.modules.values():
            self.ranks.share(module)
        self._window: list[dict[str, torch.Tensor]] = []
        self._saved = self.seconds

    @property
    def progress(self) -> float:
        """Share of the run that is done."""
        return self.pace.progress(self.step, self.seconds)

    def run(
        self, objective: Objective, draw: Callable[[], Any], after: Callable[[], None] | None = None
    ) -> bool:
        """Train until the end of the pace, then save; False if that was reached before.

        draw: the next batch. after: called at the end of every step.
        """
        if self.progress >= 1:
            self._open_log()
            return False
        tick, begun = time.monotonic(), (self.step, self.seconds)
        said = tick
        # Ranks save together, and Ctrl-C does not reach all of them in the same step.
        with stopping() if self.ranks.count == 1 else contextlib.nullcontext(list[int]()) as asked:
            while self.progress < 1:
                self.advance(objective, draw)
                self._open_log()
                if after:
                    after()
                now = time.monotonic()
                self.seconds += self.ranks.agree(now - tick, self.device)
                tick = now
                taken = (self.seconds - begun[1]) / (self.step - begun[0])
                if self.step % self.pace.report == 0:
                    self._report(taken)
                    said = now
                elif now - said >= SILENCE and self.ranks.first:
                    log.info(
                        "%s step %d  %.3f s/step  %.0f %%", self.name, self.step, taken, 100 * self.progress
                    )
                    said = now
                if asked or self.seconds - self._saved > self.pace.save_seconds:
                    self.save()
                if asked and self.path:
                    log.info(
                        "%s is kept at step %d; the same command goes on from there", self.name, self.step
                    )
                if asked:
                    raise KeyboardInterrupt
        if self._window:
            self._report((self.seconds - begun[1]) / (self.step - begun[0]))
        self.save()
        return True

    def _open_log(self) -> None:
        """By now nothing is refused any more, and a run that keeps something keeps what it says."""
        if self.path:
            open_log(self.path.parent)

    def advance(self, objective: Objective, draw: Callable[[], Any]) -> None:
        """One optimiser step along the gradient of `objective`.

        Whatever it gives no gradient stays as it is: an objective may teach one of several networks at a time.
        """
        for _ in range(self.pace.accumulate):
            loss = objective(draw())
            (loss.total / self.pace.accumulate).backward()
            self._window.append(loss.parts)
        self.ranks.average(self.params)
        taught = any(p.grad is not None for p in self.main.parameters())
        nn.utils.clip_grad_norm_(self.params, self.pace.clip)
        factor = self.pace.factor(self.step, self.seconds)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["initial_lr"] * factor
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        if taught:
            self.average.update(self.main)
        self.step += 1

    def _refuse_no_numbers(self) -> None:
        """Raises GroundedError where weights are none any more: they never become numbers again, and what was kept
        before them is not written over. Every rank must call."""
        own = [p.to_local() if isinstance(p, DTensor) else p for p in self.params]
        lost = not torch.stack([part.isfinite().all() for part in own]).all()
        if self.ranks.agree(float(lost), self.device):
            kept = f"{self.path} is as it was last kept; " if self.path and state.find(self.path) else ""
            raise GroundedError(
                f"{self.name} came to weights that are no numbers by step {self.step}",
                f"{kept}see in the log where its losses grew, and whether its data hold numbers only",
            )

    def _report(self, seconds: float) -> None:
        """The means since the last line, over all ranks; the only place but `save` that waits for the device."""
        self._refuse_no_numbers()
        names = dict.fromkeys(name for parts in self._window for name in parts)
        found = [torch.stack([p[n] for p in self._window if n in p]).mean().float() for n in names]
        means = dict(zip(names, self.ranks.mean(torch.stack(found)).tolist())) if found else {}
        self._window.clear()
        if self.ranks.first:
            text = "  ".join(f"{name} {value:.4f}" for name, value in means.items())
            done = 100 * min(1.0, self.progress)
            log.info("%s step %d  %s  %.3f s/step  %.0f %%", self.name, self.step, text, seconds, done)
            if self.report:
                self.report(self.step, {**means, "seconds": seconds})

    def _state(self) -> state.State:
        return {
            "modules": {name: state.learned(module) for name, module in self.modules.items()},
            "average": self.average.values,
            "average_steps": self.average.steps,
            "optimisers": {str(i): o.state_dict() for i, o in enumerate(self.optimisers)},
            "step": self.step,
            "seconds": self.seconds,
            state.BEGUN: self.begun,
            **{_key(name): part.state_dict() for name, part in self.carried.items()},
            **({state.OWN: self.own.state_dict()} if self.own else {}),
        }

    def save(self) -> None:
        """Write the checkpoint. Raises GroundedError: there is nothing in it that could be gone on from."""
        self._refuse_no_numbers()
        self._saved = self.seconds
        if self.path:
            state.save(self.path, self._state())

    def _go_on(self, path: Path) -> None:
        """Take up what lies there. Raises CheckpointError where it is damaged, or of another network or run."""
        try:
            self._load(path)
        except GroundedError:
            raise
        # What a damaged file or one of other sizes ends in, torch does not say; a folder's is no `Exception`.
        except (Exception, CheckpointException) as error:
            why = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise CheckpointError(
                f"{self.name} cannot go on from {path}: {why[:200]}",
                "put a whole one there, or move it away: then it begins anew",
            ) from error

    def _load(self, path: Path) -> None:
        state.same_run(path, self.name, self.begun)
        if path.is_dir() or state.sharded({"modules": list(self.main.state_dict().values())}):
            for optimiser in self.optimisers:
                prime(optimiser)
        saved = state.load(path, self._state())
        for name, module in self.modules.items():
            state.fill(module, saved["modules"][name])
        for name, value in self.average.values.items():
            value.copy_(saved["average"][name])
        self.average.steps = saved["average_steps"]
        for i, optimiser in enumerate(self.optimisers):
            optimiser.load_state_dict(saved["optimisers"][str(i)])
        for name, part in self.carried.items():
            part.load_state_dict(saved[_key(name)])
        if self.own:
            self.own.load_state_dict(saved[state.OWN])
        self.step, self.seconds = saved["step"], saved["seconds"]
        log.info("%s resumes at step %d, %.1f min", self.name, self.step, self.seconds / 60)


def _key(name: str) -> str:
    """What a carried part is called in the checkpoint."""
    return f"carried.{name}"
