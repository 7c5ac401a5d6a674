"""From native MODEL, CLIP and VAE to the bundle that the engine drives."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from ...gf_core.checkpoints.model_bundle import ModelBundle
from ...gf_core.errors import CheckpointError
from ...gf_core.text.base import TextEncoder
from ...gf_core.vae.base import LatentCodec
from .attention import host_kernel
from .builtin import builtin_codec, builtin_text
from .codec import native_codec
from .fingerprint import fingerprint
from .lora import updates
from .settings import Wanted, settings_of
from .shape import compute_dtype, network_of, read_shape
from .text import NativeText
from .unheard import unheard

log = logging.getLogger("grounded")


def native_bundle(
    model: Any, clip: Any, vae: Any, *, assume: str | None = None, model_file: str | None = None
) -> ModelBundle:
    """A bundle whose transformer, text encoder and codec are the host's own, wherever the host keeps their weights.

    model, clip, vae: values of the native sockets. assume: catalogue id to take the MODEL for; None or "detect" finds
    out. model_file: name of its file as the loader shows it, where known (`trace_model_file`).

    Raises CheckpointError: not a Wan text-to-video model, not causal, or a CLIP or VAE of another model.
    """
    if clip is None or vae is None:
        missing = "CLIP" if clip is None else "VAE"
        raise CheckpointError(
            f"there is no {missing}: the loader's file holds none",
            f"connect the {missing} of Load Model (Grounded Forcing), or load Wan's own.",
        )
    spec = read_shape(model)
    wanted = settings_of(model, spec, assume, model_file)
    text, codec = _companions(wanted, clip, vae, model, spec.text_dim, spec.text_len)
    writer, notes = wanted.writer, unheard(model)
    if writer is not None and updates(writer) != updates(model):
        notes = (
            *notes,
            "a LoRA node changes the weights that denoise; those that write the memory stay as they are",
        )
    weights = HostWeights([model] if writer is None else [model, writer], vae)
    log.info("driving %s (%s) with ComfyUI's weights", wanted.name, wanted.evidence)
    return ModelBundle(
        name=wanted.name,
        model=network_of(model),
        spec=spec,
        text=text,
        codec=codec,
        recipe=wanted.recipe,
        fingerprint=fingerprint(model, wanted.fingerprint),
        device=model.load_device,
        dtype=compute_dtype(model),
        kernel=host_kernel(model),
        ready=weights.ready,
        done=weights.done,
        licence=wanted.licence,
        notes=notes,
        writer=None if writer is None else network_of(writer),
    )


def _companions(
    wanted: Wanted, clip: Any, vae: Any, model: Any, text_dim: int, text_len: int
) -> tuple[TextEncoder, LatentCodec]:
    """Text encoder and codec; the built-in model goes with its own two, and they go with no other."""
    text, codec = builtin_text(clip), builtin_codec(vae)
    for name, own in (("CLIP", text), ("VAE", codec)):
        if (own is not None) != wanted.builtin:
            whose = "a full model's" if own is None else "the built-in model's"
            raise CheckpointError(
                f"the {name} is {whose} and the MODEL is {wanted.name}: they were not trained together",
                f"connect the {name} of the loader that the MODEL comes from.",
            )
    return text or NativeText(clip, text_dim, text_len), codec or native_codec(vae, model.model)


class HostWeights:
    """Asks the host, before each chunk, for the weights that another model may have pushed out."""

    def __init__(self, models: Sequence[Any], vae: Any) -> None:
        self._models, self._vae = models, vae
        self._running = False

    def ready(self, need: int) -> None:
        """Load models and decoder with `need` bytes left free; next to nothing when they are there."""
        import comfy.model_management as management

        # In one call: one after the other, each might push the other out.
        management.load_models_gpu([*self._models, self._vae.patcher], memory_required=need)
        if not self._running:
            for model in self._models:
                model.pre_run()
            self._running = True

    def done(self) -> None:
        """The counterpart of the first `ready`."""
        if self._running:
            self._running = False
            for model in self._models:
                model.cleanup()
