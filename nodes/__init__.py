"""The ComfyUI pack: the only place that imports ComfyUI. A node is a thin layer over `gf_core`."""

from __future__ import annotations

import importlib
from typing import Any

from comfy_api.latest import ComfyExtension

NODES = {
    "load_model": ("LoadModel",),
    "dual_memory_cache": ("DualMemoryCache",),
    "prompt_timeline": ("PromptTimeline",),
    "shot_cut": ("ShotCut",),
    "stream_sampler": ("StreamSampler",),
    "segment_takes": ("SegmentTakes",),
    "save_video": ("SaveVideo",),
    "take.images": ("TakeToImages",),
    "take.latent": ("TakeToLatent",),
    "take.sheet": ("TakeSheet",),
    "take.report": ("TakeReport",),
    "take.drift": ("TakeDrift",),
}
"""Module -> its node classes, in the order of the menu."""


class GroundedForcing(ComfyExtension):
    """What ComfyUI asks for: the nodes, and our routes on its server."""

    async def get_node_list(self) -> list[Any]:
        """Every node class. It also adds the routes: ComfyUI 0.8 and older never call `on_load`."""
        from .host import leave_out_tracebacks
        from .routes import add_routes

        add_routes()
        leave_out_tracebacks()
        modules = {name: importlib.import_module(f".{name}", __name__) for name in NODES}
        return [getattr(modules[module], name) for module, classes in NODES.items() for name in classes]
