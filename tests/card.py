"""A card that is not there: tensors that say they lie on it, and a film made with them on the processor.

What is computed from tensors of both places is refused, as on a card, and so is asking for a value while that is
forbidden; streams, events and graphs do nothing. Nothing here is compiled or has gradients.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

PLACE = torch.device("cuda", 0)
ROOM = 80 << 30
DATA: Any = Tensor.data
aten = torch.ops.aten
GOES = (aten.copy_.default, aten._to_copy.default)
"""What reads tensors of one place and writes those of another."""
INDEXED = (Tensor.__getitem__, Tensor.__setitem__)
INDEXES = (*INDEXED, aten.index.Tensor, aten.index_put_.default, aten._index_put_impl_.default)
"""What a card's tensors may be indexed with from the processor."""


class Card(Tensor):
    """A tensor on the card; `there` is what it holds."""

    there: Tensor

    @staticmethod
    def __new__(cls, there: Tensor) -> Card:
        card = Tensor._make_wrapper_subclass(
            cls,
            there.size(),
            strides=there.stride(),
            storage_offset=there.storage_offset(),
            dtype=there.dtype,
            device=PLACE,
        )
        card.there = there
        return card

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copied = Card(self.there.clone())
        return torch.nn.Parameter(copied, self.requires_grad) if getattr(self, "_is_param", False) else copied

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.tolist:
            return args[0].there.tolist()
        with torch._C.DisableTorchFunctionSubclass():
            # torch would look for the card's own kernel, and bring lists of numbers there, before it asks this class.
            if func is torch.nn.functional.scaled_dot_product_attention or func in INDEXED:
                return compute(func, args, kwargs or {})
            return func(*args, **(kwargs or {}))


class _Watched(TorchDispatchMode):
    """Makers of tensors that name the card, and moves to it, read none of its tensors: a thread's mode sees them."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


class Waits:
    """Whether a value may be asked for, which makes everybody wait for the card."""

    allowed = True


def compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """The operation on the processor; its tensors are the card's if they were asked for there, or read there."""
    given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
    cards = [value for value in given if isinstance(value, Card)]
    others = [value for value in given if not isinstance(value, Card)]
    place = kwargs.get("device")
    place = torch.device(place) if place is not None else None
    apart = bool(cards) and any(value.ndim for value in others)
    if func in INDEXES:
        apart = apart and any(value.is_floating_point() for value in others)
    if apart and func not in GOES:
        raise RuntimeError(
            f"Expected all tensors to be on the same device: {func} of {[v.device for v in given]}"
        )
    if cards and func is aten._local_scalar_dense.default and not Waits.allowed:
        raise RuntimeError("called a synchronizing operation")
    on_card = bool(cards) if place is None else place.type == "cuda"
    if func is aten.copy_.default:
        on_card = isinstance(args[0], Card)
    bare = dict(kwargs)
    if place is not None:
        bare["device"] = torch.device("cpu") if on_card else place
    if bare.get("pin_memory"):
        bare["pin_memory"] = False
    found = func(*tree_map(_bare, args), **tree_map(_bare, bare))
    known = {id(value.there): value for value in cards} | {id(value): value for value in others}

    def dressed(value: Any) -> Any:
        if id(value) in known:  # what is written in place is itself
            return known[id(value)]
        return Card(value) if on_card and isinstance(value, Tensor) else value

    return tree_map(dressed, found)


def _bare(value: Any) -> Any:
    return value.there if isinstance(value, Card) else value


class _Stream:
    """A stream, event or graph, which has nothing to do."""

    def __init__(self, *given: Any, **named: Any) -> None:
        self.device = PLACE

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *given, **named: None


@contextmanager
def _nothing(*given: Any, **named: Any) -> Iterator[None]:
    yield


def _numbered(place: Any) -> Any:
    """torch asks the driver which card is meant where no number says it."""
    return PLACE if place == "cuda" or place == torch.device("cuda") else place


@contextmanager
def a_card(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Inside, torch has a card, in this thread and in those begun inside."""
    about = SimpleNamespace(name="a card that is not there", total_memory=ROOM, major=9, minor=0)
    for name, value in {
        "is_available": True,
        "is_initialized": False,
        "device_count": 1,
        "current_device": 0,
        "get_device_name": about.name,
        "get_device_capability": (9, 0),
        "get_device_properties": about,
        "mem_get_info": (ROOM, ROOM),
        "max_memory_allocated": 1 << 30,
        **dict.fromkeys(("_lazy_init", "set_device", "synchronize", "empty_cache", "manual_seed_all")),
    }.items():
        patch.setattr(torch.cuda, name, lambda *given, value=value: value)
    for name, value in {
        **dict.fromkeys(("Stream", "Event", "current_stream", "default_stream"), _Stream),
        "stream": _nothing,
        "set_sync_debug_mode": lambda mode: setattr(Waits, "allowed", mode != "error"),
    }.items():
        patch.setattr(torch.cuda, name, value)
    # A torch for cards has it, for real ones.
    patch.setattr(torch.backends.cudnn, "is_available", lambda: False)
    to, run = Tensor.to, threading.Thread.run

    def moved(tensor: Tensor, *given: Any, **named: Any) -> Tensor:
        return to(tensor, *map(_numbered, given), **{name: _numbered(value) for name, value in named.items()})

    def watched(thread: threading.Thread) -> None:
        with _Watched():
            run(thread)

    patch.setattr(Tensor, "to", moved)
    patch.setattr(Tensor, "cuda", lambda tensor: moved(tensor, PLACE))
    patch.setattr(Tensor, "pin_memory", lambda tensor: tensor)
    patch.setattr(threading.Thread, "run", watched)
    patch.setattr(torch.nn.Parameter, "data", property(DATA.__get__, _point_at), raising=False)
    for name in ("tensor", "as_tensor"):
        patch.setattr(torch, name, _made(getattr(torch, name)))
    with ExitStack() as stack:
        stack.enter_context(_guarded())
        stack.enter_context(_Watched())
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, False)
        stack.callback(setattr, Waits, "allowed", True)
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        yield


def _point_at(parameter: torch.nn.Parameter, value: Tensor) -> None:
    """A parameter's data, on either side: torch would keep the kind that the parameter is of."""
    if isinstance(parameter, Card) or isinstance(value, Card):
        torch.utils.swap_tensors(parameter, torch.nn.Parameter(value, parameter.requires_grad))
    else:
        DATA.__set__(parameter, value)


def _made(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """From Python's numbers, which torch would bring to the card unseen by any mode."""

    def made(*given: Any, device: Any = None, pin_memory: bool = False, **named: Any) -> Tensor:
        return make(*given, **named) if device is None else make(*given, **named).to(device)

    return made


@contextmanager
def _guarded() -> Iterator[None]:
    """Whoever asks for the card's guard gets the processor's, which does nothing; this torch may have none."""
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    guards = (ctypes.c_void_p * 2).in_dll(library, "_ZN3c104impl26device_guard_impl_registryE")
    before, guards[1] = guards[1], guards[0]
    try:
        yield
    finally:
        guards[1] = before
