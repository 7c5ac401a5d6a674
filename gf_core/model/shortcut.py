"""A compiled function whose code is called past torch's dynamo, once it is known which code is a call's.

Dynamo asks at every call whether it knows it: 34 us alone and 50 to 60 among others, where the code behind it takes 10
(a processor) and a card computes a piece in 9 to 56. It is asked once per kind of call, and what its backend made is
called from then on. That is the same code, so the bits are the same.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

Make = Callable[[Any, Any], Callable[..., Sequence[Any]]]
"""What a backend makes of a graph and examples of what it is given."""
_PLAIN = (Tensor, torch.nn.Parameter)
_is_cast: Callable[[], bool] = torch._C._is_any_autocast_enabled
_here = threading.local()


class Shortcut:
    """`function`, compiled by `make` in one graph for each shape; called without gradients.

    Its arguments are tensors, numbers and None, also in tuples; it gives a tensor, a tuple of them, or nothing. Those
    that it writes to share their storage with no other: of several in one, torch makes code for where they lie in it.
    """

    def __init__(self, function: Callable[..., Any], make: Make) -> None:
        self._asked = torch.compile(function, fullgraph=True, dynamic=False, backend=_noted(make))
        self._codes = dict[Hashable, Callable[[list[Any]], Any]]()

    def __call__(self, *given: Any) -> Any:
        flat = [one for part in given for one in (part if type(part) is tuple else (part,))]
        kind = _kind(flat)
        if (code := self._codes.get(kind)) is not None:
            return code(flat)
        _here.ran = None
        try:
            result = self._asked(*given)
            if kind is not None and (code := _code(flat, result)) is not None:
                self._codes[kind] = code
        finally:
            _here.ran = None  # it holds what was given
        return result


def _noted(make: Make) -> Make:
    """The same backend; at every call of its code through dynamo it is said what that was given and gave."""

    def noted(graph: Any, examples: Any) -> Callable[..., Any]:
        code = make(graph, examples)

        def run(*taken: Any) -> Any:
            gave = code(*taken)
            _here.ran = code, taken, gave
            return gave

        return run

    return noted


def _kind(flat: list[Any]) -> Hashable:
    """What the code for a call follows from; None where dynamo is to look: with gradients, where torch chooses number
    types itself (autocast), at a kind of tensor of somebody else's, or at NaN, which is like no other."""
    if torch.is_grad_enabled() or _is_cast():
        return None
    # Code for a processor shares its work among as many threads as there were.
    kind: list[Hashable] = [torch.get_num_threads()]
    tensors: list[int] = []
    for one in flat:
        if type(one) in _PLAIN:
            # A parameter's code may count on where it lies in memory.
            kind.append((type(one), one.shape, one.stride(), one.dtype, one.device))
            tensors.append(id(one))
        elif isinstance(one, Tensor) or one != one:
            return None
        else:
            kind.append((type(one), one))  # 1, 1.0 and True are equal, and make other numbers
    if len(set(tensors)) < len(tensors):  # code takes once what is given twice
        kind += map(tensors.index, tensors)
    return tuple(kind)


def _code(flat: list[Any], result: Any) -> Callable[[list[Any]], Any] | None:
    """The code that just ran, for what the piece is given as one list; None where it is not all of the call.

    Which argument it takes where, and which of what it gives is the result, is found by identity.
    """
    if _here.ran is None:
        return None
    code, taken, gave = _here.ran
    several, nothing = isinstance(result, tuple), result is None
    order = _places(taken, flat)
    wanted = _places(() if nothing else result if several else (result,), gave)
    if order is None or wanted is None:
        return None

    def call(flat: list[Any]) -> Any:
        gave = code(*[flat[place] for place in order])
        if several:
            return tuple([gave[place] for place in wanted])
        return None if nothing else gave[wanted[0]]

    return call


def _places(some: Iterable[Any], among: Sequence[Any]) -> list[int] | None:
    """Where each of `some` stands in `among`; None if one does not."""
    known = {id(one): place for place, one in enumerate(among)}
    places = [known.get(id(one), -1) for one in some]
    return None if -1 in places else places
