"""Bytes of device memory that a film takes: the transformer exactly, working space and decoders on the safe side.

Decoder figures are published peaks at 832x480, per picture pixel. Arithmetic only; needs no torch.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import PLACES, Fit, ModelSpec, Recipe, VideoSpec
from ..errors import CheckpointError
from ..memory.sizes import Sizes, is_lean
from ..vae.decoders import DECODE_VALUES, STATE_VALUES, Decoder, kind_of, spans

if TYPE_CHECKING:
    import torch

    from ..checkpoints.model_bundle import ModelBundle

log = logging.getLogger("grounded")
TEXT_BYTES = 2
"""Bytes per number of the text encoder, which is read as bfloat16 whatever the file holds."""
MARGIN = 1.1
"""Allocators never use memory to the last byte."""
FIRST_USE = 20 * 2**20
"""Bytes of kernels and libraries that come into memory with the first chunk; measured."""
ENCODE_BYTES = 160
"""Bytes of the computer's memory that the film's encoder and its pictures take per pixel of the film, a decoded chunk
that waits for it included; at 768x512 some 140 were measured."""


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
    text: int = 0
    """Bytes of the text encoder, where it is read for prompts whose rows are not kept; it leaves before the film."""
    decoder_bytes: int | None = None
    """Bytes per number of the decoder; None as of the weights."""

    fit: Fit = field(default_factory=Fit)
    """What is done so that it fits."""
    apart: bool = False
    """Decoder and text encoder compute elsewhere, and take nothing from where the network does."""
    ranks: int = 1
    """Processes that make the film together, each with a share of the memory."""
    networks: int = 1
    """Transformers: 2 where another one writes the memory."""
    compiled: bool = False
    """Its small operations are fused, which changes the pace."""

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights."""
        return count_parameters(self.spec) * self.value_bytes if self.weights is None else self.weights

    @property
    def held(self) -> int:
        """Bytes that are taken already: the program where it computes on the processor, on a card the weights."""
        return self.resident or (self.weight_bytes if self.loaded else 0)

    def fitted(self, fit: Fit) -> ModelCost:
        """The same with `fit` in place of nothing."""
        spec, width = self.spec, self.value_bytes
        layers, saved = spec.num_layers, 0
        block = block_parameters(spec) * width
        if fit.weights != "full":
            linears, rows = 8 * spec.dim**2 + 2 * spec.dim * spec.ffn_dim, 9 * spec.dim + spec.ffn_dim
            less = linears * (width - 1) - 4 * rows
            saved, block = layers * less, block - less
        away = 0 if fit.resident is None else max(0, layers - fit.resident)
        saved += max(0, away - PLACES) * block
        return replace(self, fit=fit, weights=self.weight_bytes - self.networks * saved)

    def halved(self) -> ModelCost:
        """The same in a number type of half the width."""
        weights = self.weight_bytes // 2
        program = self.resident - weights if self.resident else 0
        return replace(self, value_bytes=self.value_bytes // 2, weights=weights, resident=program)

    def cells(self, video: VideoSpec) -> tuple[int, int]:
        """Rows and columns of a film's latents."""
        return video.height // self.spatial_stride, video.width // self.spatial_stride

    def sizes(self, recipe: Recipe) -> Sizes:
        """What the memory of such films takes."""
        lean = is_lean(recipe.memory, self.compiled)
        return Sizes(
            recipe.memory, self.spec, *self.cells(recipe.video), self.value_bytes, recipe.ahead, lean
        )


def count_parameters(spec: ModelSpec) -> int:
    """Parameters of a Wan2.1 text-to-video transformer of this shape."""
    dim = spec.dim
    patch = spec.patch_size[0] * spec.patch_size[1] * spec.patch_size[2]
    text = spec.text_dim * dim + dim + dim * dim + dim
    time = spec.freq_dim * dim + dim + dim * dim + dim + dim * 6 * dim + 6 * dim
    ends = spec.in_dim * patch * dim + dim + dim * patch * spec.out_dim + patch * spec.out_dim + 2 * dim
    return spec.num_layers * block_parameters(spec) + text + time + ends


def block_parameters(spec: ModelSpec) -> int:
    """Parameters of one of its blocks."""
    dim, ffn = spec.dim, spec.ffn_dim
    attention = 4 * (dim * dim + dim) + 2 * dim
    return 2 * attention + 2 * dim + (dim * ffn + ffn) + (ffn * dim + dim) + 6 * dim


def bundle_cost(bundle: ModelBundle, prompts: Sequence[str] = ()) -> ModelCost:
    """What the estimate has to know about a loaded model; `prompts` are those that it will encode."""
    apart, weight = bundle.decodes_on != bundle.computes_on, bundle.weight
    to_read = getattr(bundle.text, "bytes_to_read", None)  # of an encoder that is opened for new prompts only
    return ModelCost(
        spec=bundle.spec,
        value_bytes=weight.value,
        weights=weight.networks,
        decoder=kind_of(bundle.codec) or "wan",
        spatial_stride=bundle.codec.spatial_stride,
        fingerprint=bundle.fingerprint,
        apart=apart,
        ranks=1 if bundle.team is None else bundle.team.count,
        device=bundle.device_name,
        loaded=True,
        resident=weight.program,
        text=0 if to_read is None or apart else to_read(prompts),
        decoder_bytes=weight.decoder,
        fit=bundle.fit,
        networks=weight.transformers,
        compiled=bool(bundle.compiled),
    )


def file_cost(
    model: str | Path,
    *,
    device: torch.device,
    dtype: torch.dtype | None = None,
    text: str | Path | None = None,
    vae: str | Path | None = None,
    assume: str | None = None,
    parts_on: torch.device | None = None,
) -> ModelCost:
    """What the estimate has to know about a model that is not opened; headers are read, weights are not.

    dtype: None is what `load_model` takes on this device. text, vae: None looks beside the model; where nothing is
    found the encoder of Wan is left out, and its VAE counted, the largest there is. assume, parts_on: as in
    `load_model`.

    Raises CheckpointError: a file that is no such model, encoder or VAE.
    """
    from ..checkpoints.bundle import known_fingerprint
    from ..checkpoints.identify import identify
    from ..checkpoints.keymaps import experts
    from ..checkpoints.load import default_dtype
    from ..devices import name_of

    item = identify(Path(model), assume=assume)
    spec = item.what.spec
    if spec is None:
        raise CheckpointError(f"{model} is not a text-to-video transformer", "choose another file")
    read = _text_numbers(_part("text", text, model))
    kind, held, wide = _decoder(_part("vae", vae, model))
    width = (dtype or default_dtype(device)).itemsize
    # As `load_vae` keeps them: on the processor always float32.
    wide = 4 if (parts_on or device).type == "cpu" else wide or width
    apart = parts_on is not None and parts_on != device
    networks = 2 if experts(item.what.tensors)[1] else 1
    return ModelCost(
        spec,
        value_bytes=width,
        weights=networks * count_parameters(spec) * width + (0 if apart else held * wide),
        decoder=kind,
        fingerprint=known_fingerprint(item) or "",
        apart=apart,
        device=name_of(device),
        text=0 if apart else read * TEXT_BYTES,
        decoder_bytes=wide,
        networks=networks,
    )


def _part(kind: str, given: str | Path | None, model: str | Path) -> Path | None:
    """The file that is `given`, or the one beside the model; None, with a line in the log, where there is none."""
    from ..checkpoints.companions import find

    try:
        return find(kind, Path(model)) if given is None else Path(given)
    except CheckpointError as error:
        log.info("not counted: %s", error.message)
        return None


def _text_numbers(file: Path | None) -> int:
    """Numbers in the text encoder of a file; 0 without one."""
    from ..checkpoints.companions import describe_text
    from ..files.scales import unscaled
    from ..text.umt5 import weights_of

    weights = {} if file is None else weights_of(unscaled(describe_text(file)[1]))
    return sum(tensor.numel for tensor in weights.values())


def _decoder(file: Path | None) -> tuple[Decoder, int, int]:
    """Which decoder a file holds, its numbers, and bytes per number; without a file the largest, and zeros."""
    from ..vae.load import describe_vae

    if file is None:
        return "wan", 0, 0
    _, kind, tensors = describe_vae(file)
    wide = max((tensor.dtype.itemsize for tensor in tensors.values()), default=0)
    return kind, sum(tensor.numel for tensor in tensors.values()), wide


def parts_of(cost: ModelCost, recipe: Recipe, upscale: int) -> dict[str, int]:
    """Bytes of memory by what they are for."""
    parts = {
        "weights": cost.weight_bytes,
        "memory": -(-cost.sizes(recipe).buffers // (1 if recipe.memory.wave else cost.ranks)),
        "work": work_bytes(cost, recipe),
    }
    if not cost.apart:
        parts["decoder"] = decode_bytes(cost, recipe.video)
    if cost.resident:
        program = cost.resident - cost.weight_bytes + FIRST_USE
        pixels = recipe.video.width * recipe.video.height * upscale**2
        parts = {"program": program, **parts, "encoder": ENCODE_BYTES * pixels}
    return parts


def work_bytes(cost: ModelCost, recipe: Recipe) -> int:
    """Bytes of one network call: activations of the frames it runs over, and the prompt's keys and values."""
    spec, memory = cost.spec, recipe.memory
    together = 0 if memory.wave else recipe.ahead
    frames = max(memory.chunk + together, memory.recent if memory.switch in ("apr", "recache") else 0)
    tokens = frames * spec.tokens_per_frame(*cost.cells(recipe.video))
    activations = tokens * ((10 * spec.dim + 2 * spec.ffn_dim) * cost.value_bytes + 12 * spec.dim)
    return activations + 2 * spec.num_layers * spec.text_len * spec.dim * cost.value_bytes


def decode_bytes(cost: ModelCost, video: VideoSpec) -> int:
    """Bytes of decoding one chunk, the state between chunks included."""
    most, kept = DECODE_VALUES[cost.decoder], STATE_VALUES[cost.decoder]
    wide, cells = cost.decoder_bytes or cost.value_bytes, cost.fit.tile
    if not cells:
        return most * video.width * video.height * wide
    stride = cost.spatial_stride
    lengths = [[stop - start for start, stop in spans(side, cells)] for side in cost.cells(video)]
    tile, every = (kind(lengths[0]) * kind(lengths[1]) * stride**2 for kind in (max, sum))
    waits = kept * (every - tile) if cost.device == "cpu" else 0  # elsewhere in the computer's memory
    return (most * tile + waits) * wide
