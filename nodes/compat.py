"""One source for several years of ComfyUI: keywords that a host does not know yet are left out.

Everything that ComfyUI 0.3.64 knows is used directly; `advanced`, `search_aliases` and the like came later.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

PACK = "grounded forcing"
"""What somebody looks for who has just installed this pack and knows no node's name."""


def schema(**settings: Any) -> io.Schema:
    """An `io.Schema` in the pack's menu, found under its name too, without the settings that this host lacks."""
    settings.setdefault("category", "Grounded Forcing")
    settings["search_aliases"] = [PACK, *settings.get("search_aliases", ())]
    known = {field.name for field in dataclasses.fields(io.Schema)}
    return io.Schema(**{name: value for name, value in settings.items() if name in known})


def widget(kind: Any, name: str, **settings: Any) -> Any:
    """The input `name` of a type such as `io.Int`, without the settings that this host does not know."""
    known = _keywords(kind.Input.__init__)
    return kind.Input(name, **{key: value for key, value in settings.items() if key in known})


def number(name: str, default: float, limits: tuple[float, float], tooltip: str, **settings: Any) -> Any:
    """A number within `limits`: a whole one where `default` is."""
    kind = io.Int if isinstance(default, int) else io.Float
    least, most = limits
    return widget(kind, name, default=default, min=least, max=most, tooltip=tooltip, **settings)


def choice(name: str, options: list[str], tooltip: str, **settings: Any) -> Any:
    """One of `options`, by default the first."""
    return widget(io.Combo, name, options=options, default=options[0], tooltip=tooltip, **settings)


@lru_cache(maxsize=64)
def _keywords(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


def nothing_yet() -> Any:
    """An output that lets nothing behind it run, and is no error."""
    return ExecutionBlocker(None)
