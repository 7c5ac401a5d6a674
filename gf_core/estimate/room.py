"""Bytes of device memory that a film takes: the transformer exactly, working space and decoders on the safe side.

Decoder figures are published peaks at 832x480, per picture pixel. Arithmetic only; needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..config import ModelSpec, Recipe, VideoSpec
from ..memory.regions import Sizes
from ..vae.decoders import DECODE_VALUES, Decoder, kind_of

if TYPE_CHECKING:
    from ..checkpoints.bundle import ModelBundle


ENCODE_BYTES = 100
"""Bytes that the film's encoder and its pictures take per pixel of the film; measured at 768x512."""


@dataclass(frozen=True)
class ModelCost:
    """What the estimate has to know about a model."""

    spec: ModelSpec
    """Its shape."""
    value_bytes: int = 2
    """Bytes per number of weights and memory: 2 in bfloat16, 4 in float32."""
    weights: int | None = None
    """Bytes of the weights; None counts them from the shape."""
    decoder: Decoder = "wan"
    """Which decoder makes the pictures."""
    spatial_stride: int = 8
    """Picture pixels per latent cell."""
    fingerprint: str = ""
    """Of the model file; finds the speed measured last time."""
    device: str = "cpu"
    """Name of the card, or cpu."""
    loaded: bool = False
    """The weights are in memory already and count no more against what is free."""
    resident: int = 0
    """Bytes that the whole program holds, weights included, where it computes in the computer's memory; 0 on a card."""

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights."""
        return count_parameters(self.spec) * self.value_bytes if self.weights is None else self.weights

    def sizes(self, recipe: Recipe) -> Sizes:
        """What the memory of such films takes."""
        height, width = (side // self.spatial_stride for side in (recipe.video.height, recipe.video.width))
        return Sizes(recipe.memory, self.spec, height, width, self.value_bytes)


def count_parameters(spec: ModelSpec) -> int:
    """Parameters of a Wan2.1 text-to-video transformer of this shape."""
    dim, ffn = spec.dim, spec.ffn_dim
    patch = spec.patch_size[0] * spec.patch_size[1] * spec.patch_size[2]
    attention = 4 * (dim * dim + dim) + 2 * dim
    block = 2 * attention + 2 * dim + (dim * ffn + ffn) + (ffn * dim + dim) + 6 * dim
    text = spec.text_dim * dim + dim + dim * dim + dim
    time = spec.freq_dim * dim + dim + dim * dim + dim + dim * 6 * dim + 6 * dim
    ends = spec.in_dim * patch * dim + dim + dim * patch * spec.out_dim + patch * spec.out_dim + 2 * dim
    return spec.num_layers * block + text + time + ends


def bundle_cost(bundle: ModelBundle) -> ModelCost:
    """What the estimate has to know about a loaded model."""
    import psutil

    return ModelCost(
        spec=bundle.spec,
        value_bytes=bundle.computes_in.itemsize,
        weights=sum(weight.nbytes for weight in bundle.model.parameters()),
        decoder=kind_of(bundle.codec) or "wan",
        spatial_stride=bundle.codec.spatial_stride,
        fingerprint=bundle.fingerprint,
        device=bundle.device_name,
        loaded=True,
        resident=psutil.Process().memory_info().rss if bundle.computes_on.type == "cpu" else 0,
    )


def work_bytes(cost: ModelCost, recipe: Recipe) -> int:
    """Bytes of one network call: activations of the frames it runs over, and the prompt's keys and values."""
    spec, memory = cost.spec, recipe.memory
    height, width = (side // cost.spatial_stride for side in (recipe.video.height, recipe.video.width))
    frames = max(memory.chunk, memory.recent if memory.switch in ("apr", "recache") else 0)
    tokens = frames * spec.tokens_per_frame(height, width)
    activations = tokens * ((10 * spec.dim + 2 * spec.ffn_dim) * cost.value_bytes + 12 * spec.dim)
    return activations + 2 * spec.num_layers * spec.text_len * spec.dim * cost.value_bytes


def encode_bytes(video: VideoSpec, upscale: int) -> int:
    """Bytes of the film's encoder and its pictures, in the computer's memory."""
    return ENCODE_BYTES * video.width * video.height * upscale**2


def decode_bytes(cost: ModelCost, video: VideoSpec) -> int:
    """Bytes of decoding one chunk, the state between chunks included."""
    return DECODE_VALUES[cost.decoder] * video.width * video.height * cost.value_bytes
