"""Grounded Forcing: long multi-shot video from a storyboard on causal Wan-family models."""

from importlib import import_module
from typing import Any

PUBLIC = {
    "load_model": ".checkpoints.bundle",
    "parse": ".timeline",
    "render_film": ".engine.render",
    "Session": ".engine.session",
    "MemorySpec": ".config",
    "Recipe": ".config",
    "Encoding": ".config",
}
"""Names to import from here and the modules that hold them, which are loaded when first asked for."""

__all__ = list(PUBLIC)  # pyright: ignore[reportUnsupportedDunderAll]


def __dir__() -> list[str]:
    return [*globals(), *PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(PUBLIC[name], __name__), name)
