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
    "save_video": ("SaveVideo",),
    "take_images": ("TakeToImages",),
    "take_latent": ("TakeToLatent",),
    "take_sheet": ("TakeSheet",),
    "take_report": ("TakeReport",),
}
"""Module -> its node classes, in the order of the menu."""


class GroundedForcing(ComfyExtension):
    """What ComfyUI asks for: the nodes, and our routes on its server."""

    async def on_load(self) -> None:
        """Add the routes of the live view."""
        from .routes import add_routes

        add_routes()

    async def get_node_list(self) -> list[Any]:
        """Every node class."""
        found = []
        for module, classes in NODES.items():
            try:
                loaded = importlib.import_module(f".{module}", __name__)
            except ModuleNotFoundError as error:
                if error.name != f"{__name__}.{module}":
                    raise
                continue  # not written yet
            found += [getattr(loaded, name) for name in classes]
        return found
