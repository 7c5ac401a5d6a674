"""What decides the pixels of a film, as plain JSON values, and the hashes of it that keys are made of."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import av

from ..checkpoints.noted import NotedBundle
from ..config import Encoding, Recipe, VideoSpec, as_facts
from ..devices import name_of
from ..video.codecs import find_codec

if TYPE_CHECKING:
    from torch import Tensor

    from ..checkpoints.model_bundle import ModelBundle

ENGINE = 2
"""Raised whenever the same settings would give other pixels than before."""


def latent_facts(bundle: ModelBundle, recipe: Recipe, start: Tensor | None = None) -> dict[str, Any]:
    """Everything outside the storyboard that decides the latents.

    The codec's fingerprint counts when it encoded the `start` pictures [t H W 3]; decoding is not part of the latents.
    """
    facts: dict[str, Any] = {
        "engine": ENGINE,
        "model": bundle.fingerprint,
        "text": bundle.text.fingerprint,
        "memory": as_facts(recipe.memory),
        "sample": as_facts(recipe.sample),
        "size": [recipe.video.width, recipe.video.height],
        "kernels": kernels(bundle, recipe),
    }
    if start is not None:
        from ..vae.tiles import whole

        facts["start"] = [whole(bundle.codec).fingerprint, print_of(start)]
    # As it will be read back, lists for tuples, so that it can be compared with what is read.
    return json.loads(json.dumps(facts))


def print_of(frames: Tensor) -> str:
    """Hex SHA-256 of given pictures [t H W 3]."""
    return hashlib.sha256(frames.detach().cpu().contiguous().numpy().tobytes()).hexdigest()


def picture_facts(codec: str, encoding: Encoding, video: VideoSpec) -> dict[str, Any]:
    """What turns given latents into the bytes of a film: decoder (its fingerprint `codec`), speed, encoding."""
    encoder, choice = find_codec(encoding.codec)
    enlarged, side = encoding.upscale > 1, min(video.width, video.height) * encoding.upscale
    options = {"encoder": encoder, **choice.options(encoder, encoding.quality, enlarged, side)}
    return {
        "codec": codec,
        "film": asdict(encoding),
        "fps": video.fps,
        "encoder": av.__version__,
        "options": {**options, "enlarged": "in YUV"} if enlarged else options,
    }


def hash_facts(facts: Any) -> str:
    """Hex SHA-256 of plain JSON values."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def kernels(bundle: ModelBundle, recipe: Recipe) -> dict[str, Any]:
    """What decides the last bit of a sum: device, number type, library, and on the CPU how the work is divided.

    Measured with the built-in model: one thread and two give different latents from the first chunk on.
    """
    if isinstance(bundle, NotedBundle):
        return {**bundle.kernels, "threads": bundle.threads_for(recipe)}
    import torch

    device, dtype = bundle.computes_on, bundle.computes_in
    facts: dict[str, Any] = {
        "device": bundle.device_name,
        "dtype": str(dtype).removeprefix("torch."),
        "torch": str(torch.__version__),
    }
    if device.type == "cpu":
        facts["instructions"] = torch.backends.cpu.get_cpu_capability()
        facts["threads"] = bundle.threads_for(recipe)
    parts = name_of(bundle.decodes_on)
    if parts != facts["device"]:  # another kind of card reads prompts otherwise
        facts["parts"] = parts
    if bundle.compiled:
        from ..model.compiled import fused

        facts["compiled"] = fused().name
    if bundle.team is not None and not recipe.memory.wave:  # products over some of the rows round otherwise
        facts["ranks"] = bundle.team.count
        if device.type == "cpu":
            placed = "rows" if bundle.small(recipe) else "prompts"
            facts[placed] = "in place"  # `Split`; before, they were rounded otherwise
    attention = bundle.pick_attention(recipe).signed
    return facts if attention == "sdpa" else {**facts, "attention": attention}
