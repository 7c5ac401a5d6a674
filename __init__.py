"""Grounded Forcing for ComfyUI: the pack's entry. Everything is in `nodes/`; the engine is in `gf_core/`."""

from __future__ import annotations

from typing import Any

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> Any:
    """Called by ComfyUI only, so that this file also imports where there is no ComfyUI."""
    from .nodes import GroundedForcing

    return GroundedForcing()
