"""The bridge between ComfyUI's own MODEL, CLIP and VAE and the engine of `gf_core`.

Nothing heavy is imported here: `torch` and the host's modules come with the first call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .trace import trace_model_file

if TYPE_CHECKING:
    from ...gf_core.checkpoints.model_bundle import ModelBundle

__all__ = ["native_bundle", "trace_model_file"]


def native_bundle(
    model: Any, clip: Any, vae: Any, *, assume: str | None = None, model_file: str | None = None
) -> ModelBundle:
    """A bundle that drives the host's own modules; see `bundle.native_bundle`."""
    from .bundle import native_bundle as make

    return make(model, clip, vae, assume=assume, model_file=model_file)
