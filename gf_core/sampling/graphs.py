"""Network calls recorded once per layout and replayed: a card is told one thing a call where it was told hundreds.

A memory's buffers and the weights stay where they are, so a call with the same layout does the same to the same
addresses. What changes from call to call (latents, time, prompt, turns) is copied into places of its own before a
replay. A layout is recorded when it comes back in a second chunk; those of the first chunks of a shot mostly do not.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..memory.views import View
from ..model.forward import Call, TextKV
from ..model.layers import Text

log = logging.getLogger("grounded")
Run = Callable[[], Tensor | None]
Record = Callable[[Run], tuple[Callable[[], Any], Tensor | None]]
"""Records what a call does; gives what does it again, and the result, which is then written anew in its place."""
MOST = 12
"""Calls that are kept recorded; each of a film's usual layouts has two, one of which writes the memory."""
SEEN = 48
"""Layouts whose first chunk is remembered."""


def on_card() -> Record:
    """Recording as CUDA graphs, which take turns in one pool of memory."""
    pool = torch.cuda.graph_pool_handle()

    def record(run: Run) -> tuple[Callable[[], Any], Tensor | None]:
        graph = torch.cuda.CUDAGraph()
        # Only this thread's doings: the decoder goes on in another.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            made = run()
        return graph.replay, made

    return record


@dataclass
class _Inputs:
    """Places that recorded calls read, and what was put there last."""

    here: list[Tensor]
    last: list[Tensor]

    @classmethod
    def of(cls, values: list[Tensor]) -> _Inputs:
        return cls([value.clone() for value in values], values)

    def put(self, values: list[Tensor], *, always: bool = False) -> None:
        """always: copy the same tensors too, in which other numbers may lie by now."""
        for place, last, value in zip(self.here, self.last, values):
            if always or last is not value:
                place.copy_(value)
        self.last = values


@dataclass
class _Recorded:
    replay: Callable[[], Any]
    made: Tensor | None
    often: _Inputs
    """What changes with most calls, latents first; they are written to in place, so they are always put."""
    turns: _Inputs


class Graphs:
    """`Call.run`, replayed where it can be; for one film, without gradients, on a tree of our own.

    What is recorded is compared with the call itself: should a replay give other bits, it is said once, and nothing is
    recorded any more.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self._seen: OrderedDict[Hashable, View] = OrderedDict()
        self._kept: OrderedDict[Hashable, _Recorded] = OrderedDict()
        self._texts: dict[Hashable, tuple[list[Text], _Inputs]] = {}
        self._works = True

    def __call__(self, asked: Call) -> Tensor | None:
        """As `Call.run`; a result that was replayed is overwritten by the next call of its layout."""
        view = asked.memory
        if not self._works or not isinstance(view, View):
            return asked.run()
        often, texts, (layout, turns) = [asked.latents, *asked.time], _tensors(asked.text), view.layout
        shapes = tuple(tuple(value.shape) for value in (*often, *texts, *turns))
        key = id(asked.model), asked.want_flow, layout, shapes
        if (kept := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            kept.often.put(often, always=True)
            kept.turns.put(turns)
            self._text_places(asked)
            kept.replay()
            return kept.made
        made = asked.run()
        first = self._seen.setdefault(key, view)
        if len(self._seen) > SEEN:
            self._seen.popitem(last=False)
        if first is not view:
            self._keep(key, asked, view, made)
        return made

    def _keep(self, key: Hashable, asked: Call, view: View, made: Tensor | None) -> None:
        """Record a call that was just made, unless that gives something else."""
        often, turns = _Inputs.of([asked.latents, *asked.time]), _Inputs.of(view.layout[1])
        latents, e, e0 = often.here
        here = replace(
            asked, latents=latents, time=(e, e0), text=self._text_places(asked), memory=view.over(turns.here)
        )
        try:
            # The call was just made: what it has written is what a replay must write again.
            written = [_bits(store) for store in view.written()]
            replay, again = self._record(here.run)
            replay()
            same = all(torch.equal(old, _bits(store)) for old, store in zip(written, view.written()))
            if same and (made is None or (again is not None and torch.equal(made, again))):
                self._kept[key] = _Recorded(replay, again, often, turns)
                if len(self._kept) > MOST:
                    self._kept.popitem(last=False)
                return
            why = "a replay gives other bits"
        except RuntimeError as error:
            why = (str(error).strip().splitlines() or [""])[0]
        self._works = False
        self._kept.clear()
        log.warning("network calls are not recorded: %s", why)
        # A replay may have left other bits in memory: the call is made once more.
        asked.run()

    def _text_places(self, asked: Call) -> list[Text]:
        """The prompt where recorded calls read it."""
        values = _tensors(asked.text)
        key = id(asked.model), tuple(tuple(value.shape) for value in values)
        if key not in self._texts:
            inputs = _Inputs.of(values)
            rest = iter(inputs.here)
            named = ("k", "v", "bias")
            parts = [{n: next(rest) for n in named if getattr(one, n) is not None} for one in asked.text]
            self._texts[key] = [one._replace(**part) for one, part in zip(asked.text, parts)], inputs
        places, inputs = self._texts[key]
        inputs.put(values)
        return places


def _bits(slots: Tensor) -> Tensor:
    """Sums of the bits of slots [b s h d] as whole numbers [b s h]: a copy would take as much memory as a call."""
    whole = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return slots.view(whole[slots.element_size()]).sum(-1, dtype=torch.int64)


def _tensors(text: TextKV) -> list[Tensor]:
    return [part for one in text for part in (one.k, one.v, one.bias) if part is not None]
