"""Objectives on a card as recorded graphs: the computer asks for a step once, not for its thousands of kernels.

Every set of shapes (kinds of clips) is recorded once. Random numbers are drawn anew at every replay, weights are read
where they lie; what is decided on the processor stays outside of what is recorded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, _foreach_copy_, _foreach_mul  # pyright: ignore[reportPrivateImportUsage]

from . import Loss
from .distil import Distil

log = logging.getLogger("grounded")
WARM = 2
"""Calls before one is recorded: they choose kernels and fill caches."""

Tensors = tuple[Tensor, ...]
Record = Callable[[Callable[[], Tensors]], tuple[Tensors, Callable[[], None]]]
"""Calls a function and gives its results and what brings them up to date."""


class Learnable(Protocol):
    """An objective in two halves: `__call__(batch)` is `loss(batch, context(batch))`."""

    def context(self, batch: Any) -> Tensor: ...

    def loss(self, batch: Any, context: Tensor) -> Loss: ...


class Recorder:
    """Records on a card; all graphs share their memory, so one's results are to be used before the next is replayed."""

    def __init__(self) -> None:
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, function: Callable[[], Tensors]) -> tuple[Tensors, Callable[[], None]]:
        # As PyTorch asks: the calls before a recording run on a stream beside, and each waits for the other.
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM):
                function()
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        # Other threads bring clips to the card meanwhile.
        with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
            made = function()
        return made, graph.replay


class Recorded:
    """A function of nested tables of tensors that gives tensors, recorded for every set of shapes.

    Where recording fails, a line says so and the function is called.
    """

    def __init__(self, function: Callable[..., Tensors], record: Record) -> None:
        self.function: Callable[..., Tensors] = function
        self.record: Record | None = record
        self._kept: dict[tuple, tuple[list[Tensor], Tensors, Callable[[], None]]] = {}

    def __call__(self, *given: Any) -> Tensors:
        inputs = _tensors(given)
        key = tuple(x.shape for x in inputs)
        if self.record and key not in self._kept:
            # Places that the recorded calls read: whatever is given later is copied into them.
            own = _mapped(given, torch.clone)
            try:
                made, again = self.record(lambda: self.function(*own))
                self._kept[key] = _tensors(own), made, again
                log.info("recorded for %d kinds of clips so far", len(self._kept))
            except RuntimeError as error:  # a kernel of this version waits for the card, or memory is short
                # No other shape is recorded from here on; those that were are still replayed.
                self.record = None
                log.warning("steps are computed call by call: %s", str(error).splitlines()[0])
        if key not in self._kept:
            return self.function(*given)
        held, made, again = self._kept[key]
        _foreach_copy_(held, inputs)
        again()
        return made


class Replayed:
    """`objective`, with its two halves recorded; gradients reach `params` when the loss is differentiated."""

    def __init__(self, objective: Learnable, params: Sequence[Tensor], record: Record) -> None:
        self.objective, self.params = objective, [p for p in params if p.requires_grad]
        self._names: list[str] = []
        self._learn = Recorded(self._differentiated, record)
        if isinstance(objective, Distil):
            objective.regenerated = _First(Recorded(_tupled(objective.regenerated), record))

    def __call__(self, batch: Any) -> Loss:
        context = self.objective.context(batch)
        found = self._learn(batch, context)
        # Laid out by `_differentiated`.
        total, parts = found[0], found[1 : 1 + len(self._names)]
        grads = found[1 + len(self._names) :]
        # Copied, as the next replay writes these places again; gradients are used before that.
        joined = _Given.apply(total, grads, *self.params)
        return Loss(joined, {name: value.clone() for name, value in zip(self._names, parts)})

    def _differentiated(self, batch: Any, context: Tensor) -> Tensors:
        loss = self.objective.loss(batch, context)
        self._names = list(loss.parts)
        grads = torch.autograd.grad(loss.total, self.params, allow_unused=True, materialize_grads=True)
        return loss.total.detach(), *loss.parts.values(), *grads


class _Given(torch.autograd.Function):
    """A loss whose gradients are known already."""

    @staticmethod
    def forward(ctx: Any, total: Tensor, grads: Tensors, *params: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.grads = grads
        return total.clone()

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple:  # pyright: ignore[reportIncompatibleMethodOverride]
        return None, None, *_foreach_mul(list(ctx.grads), scale)  # none for `total` and `grads`


class _First:
    """The first result of a recorded function, copied out of the shared memory."""

    def __init__(self, recorded: Recorded) -> None:
        self.recorded = recorded

    def __call__(self, *given: Any) -> Tensor:
        return self.recorded(*given)[0].clone()


def _tupled(function: Callable[..., Tensor]) -> Callable[..., Tensors]:
    return lambda *given: (function(*given),)


def _tensors(value: Any) -> list[Tensor]:
    """All tensors inside of dataclasses and tuples, in order."""
    if isinstance(value, Tensor):
        return [value]
    if is_dataclass(value):
        value = [getattr(value, field.name) for field in fields(value)]
    return [x for part in value or () for x in _tensors(part)]


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same with every tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple):
        return tuple(_mapped(part, change) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        return type(value)(**{f.name: _mapped(getattr(value, f.name), change) for f in fields(value)})
    return value
