"""Everything that a film needs, opened together: transformer, text encoder, codec, and the settings they want."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from ..attention import Kernel
from ..attention.backends import Backend, film_call, pick
from ..config import Fit, MemorySpec, ModelSpec, Recipe, SampleSpec, VideoSpec
from ..devices import free_bytes, name_of
from ..errors import CheckpointError, GroundedError, ResourceError
from ..files.fingerprint import combine, hash_tensors, recalled, remembered
from ..files.scales import unscaled
from ..files.tensors import open_file
from ..foreign import with_values
from ..memory.checks import check
from ..memory.presets import PRESETS
from ..sampling.sampler import Sampler
from ..team import Team
from ..text.base import TextEncoder
from ..text.small import load_small_encoder
from ..text.store import StoredEncoder
from ..vae.base import LatentCodec
from ..vae.load import load_vae
from ..vae.tiles import Tiled
from .companions import find, open_text
from .identify import Identified
from .lora import Lora
from .networks import Networks, all_loras, identified, networks_of
from .recognise import choices

log = logging.getLogger("grounded")
S = TypeVar("S", MemorySpec, SampleSpec, VideoSpec)


@dataclass
class ModelBundle:
    """A model ready to make films."""

    name: str
    """What to call it: `builtin`, or the file's name."""
    model: nn.Module = field(repr=False)
    """Transformer with original Wan names."""
    spec: ModelSpec
    """Its shape."""
    text: TextEncoder = field(repr=False)
    """Prompts to rows."""
    codec: LatentCodec = field(repr=False)
    """Pictures to latents and back."""
    recipe: Recipe
    """What the weights want: the sampler they were distilled for, a memory for long films, their size."""
    fingerprint: str
    """Hash of the weights in use, LoRAs included."""
    device: torch.device | None = None
    """Where to compute; None is where the model's parameters are."""
    dtype: torch.dtype | None = None
    """What to compute in; None is the type of the model's parameters."""
    kernel: Kernel | None = None
    """Attention of the host that the model lives in; None is ours."""
    attention: str = ""
    """Name of the row in `attention.backends` that computes where no host does; empty is the fastest one."""
    ready: Callable[[int], None] | None = None
    """Brings a host's weights to the device, leaving so many bytes free for the work; called before every chunk."""
    done: Callable[[], None] | None = None
    """Told once when the work is over, however it ended."""
    writer: nn.Module | None = None
    """A second set of weights, which writes the memory (SGF+); None: the model does."""
    licence: str = ""
    """Under which terms its authors give it; empty where nothing is known of them, and for the built-in model."""
    fit: Fit = field(default_factory=Fit)
    """What was done so that it fits."""
    compiled: bool | None = False
    """The small operations between products and attention are compiled into fused ones (`model.compiled`). None leaves
    it to the film (`engine.compiling`), and is as False until that is settled."""
    parts_on: torch.device | None = None
    """Where the codec and the text encoder compute; None is where the network does."""
    team: Team | None = None
    """The ranks that make films together; None: this process alone."""
    notes: tuple[str, ...] = ()
    """What people should know about it, a line each: of a host's model, what lies on it and has no effect."""

    @property
    def computes_on(self) -> torch.device:
        """Where the network computes."""
        return self.device or next(self.model.parameters()).device

    @property
    def decodes_on(self) -> torch.device:
        """Where the codec computes."""
        return self.parts_on or self.computes_on

    @property
    def computes_in(self) -> torch.dtype:
        """What the network computes in."""
        return self.dtype or next(self.model.parameters()).dtype

    @property
    def device_name(self) -> str:
        """The card's own name, or `cpu`."""
        return name_of(self.computes_on)

    def free_memory(self) -> int:
        """Bytes free where the network computes: on its card, or in the computer."""
        return free_bytes(self.computes_on)

    def check_size(self, video: VideoSpec) -> None:
        """Raises ResourceError unless the network's grid divides the film's sides."""
        grid = self.codec.spatial_stride * self.spec.patch_size[1]
        if video.width % grid or video.height % grid or min(video.width, video.height) < grid:
            width, height = (max(grid, round(side / grid) * grid) for side in (video.width, video.height))
            raise ResourceError(
                f"{video.width}x{video.height} does not fit the model's grid of {grid} pixels",
                f"use {width}x{height}",
            )

    def cells(self, video: VideoSpec) -> tuple[int, int]:
        """Rows and columns of a film's latents."""
        stride = self.codec.spatial_stride
        return video.height // stride, video.width // stride

    def pick_attention(self, recipe: Recipe) -> Backend:
        """Who computes attention in such films."""
        call = film_call(
            self.spec, recipe.memory, self.cells(recipe.video), self.computes_on, self.computes_in
        )
        given: dict[str, Any] = {"host": self.kernel, "wanted": self.attention, "call": call}
        return pick(self.computes_on, self.computes_in, self.spec.head_dim, **given)

    def sampler(self, recipe: Recipe) -> Sampler:
        """A fresh sampler of films of this size under these settings."""
        height, width = self.cells(recipe.video)
        placed: dict[str, Any] = {"latent_height": height, "latent_width": width, "dtype": self.computes_in}
        placed |= {"compiled": bool(self.compiled), "attention": self.attention}
        if self.team is not None:  # all by the kernel that is the fastest here
            placed["attention"] = self.pick_attention(recipe).name
        networks = Networks(self.model, self.writer, self.spec)
        here = {"device": self.computes_on, "kernel": self.kernel, "team": self.team}
        with contextlib.nullcontext() if self.team is None else self.team.agreed("make", recipe, **placed):
            return networks.sampler(recipe, **placed, **here)


def load_model(
    source: str | Path = "builtin",
    *,
    text: TextEncoder | str | Path | None = None,
    vae: LatentCodec | str | Path | None = None,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    assume: str | None = None,
    weights: str | None = None,
    loras: Sequence[tuple[str | Path, float]] = (),
    prompts: Sequence[str] = (),
    fit: Fit | None = None,
    compiled: bool | None = None,
    attention: str = "",
    parts_on: torch.device | None = None,
) -> ModelBundle:
    """Opens `source`: "builtin", a checkpoint file, or a folder.

    text, vae: a ready encoder or codec, or the path of one; None looks beside the model. dtype: float32 on
    the CPU, bfloat16 elsewhere. assume: catalogue id to take a renamed causal file for. weights: outer key
    to take. loras: (path, strength) pairs merged into the weights. prompts: of the film to come; a large text encoder
    reads them before the transformer is loaded, so that the two are never in memory together. fit: what is done so
    that films fit; its `memory` is a film's, and goes into the recipe that the weights want. compiled, attention,
    parts_on: as in `ModelBundle`.

    Raises CheckpointError, saying what the file is and what is needed, or ResourceError for too little
    memory.
    """
    path, item, spec = identified(source, assume, weights)
    merges = all_loras(item, path, loras)
    fit = fit or Fit()
    codec = _codec(vae, item, parts_on or device, fit)
    encoder = _encoder(text, item, parts_on or device)
    if prompts and isinstance(encoder, StoredEncoder):
        encoder.encode(list(prompts))
    networks = networks_of(item, spec, loras=merges, dtype=dtype, device=device, fit=fit)
    return ModelBundle(
        name=str(item.own.get("name") or path.name),
        model=networks.model,
        spec=spec,
        text=encoder,
        codec=codec,
        recipe=wanted_recipe(item).fitted(fit),
        fingerprint=_fingerprint(item, spec, merges, fit),
        writer=networks.writer,
        licence=licence_of(item),
        fit=fit,
        compiled=compiled,
        attention=attention,
        parts_on=parts_on,
    )


def model_prints(
    source: str | Path,
    *,
    text: Path | None = None,
    vae: Path | None = None,
    assume: str | None = None,
    loras: Sequence[tuple[str | Path, float]] = (),
    fit: Fit | None = None,
) -> tuple[Recipe, dict[str, str]]:
    """What the weights want, and fingerprints ("model", "text", "codec") of what `load_model` would open.

    No transformer is read, but for its hash where that is not known.

    Arguments and errors as of `load_model`.
    """
    path, item, spec = identified(source, assume)
    fit = fit or Fit()
    prints = {
        "model": _fingerprint(item, spec, all_loras(item, path, loras), fit),
        "text": _encoder(text, item, "cpu").fingerprint,
        "codec": _codec(vae, item, "cpu", fit).fingerprint,
    }
    return wanted_recipe(item), prints


def wanted_recipe(item: Identified) -> Recipe:
    """What a checkpoint wants: from its header, the catalogue, or Self Forcing's."""
    if item.own:
        name = item.file.path.name
        return Recipe(
            _settings(PRESETS["grounded"], item.own.get("memory", {}), name),
            _settings(SampleSpec(), item.own.get("sample", {}), name),
            _settings(VideoSpec(), item.own.get("video", {}), name),
        )
    known = item.known
    if known is None or not known.causal:
        like = f"; if it is another, say {choices(item.candidates)}" if item.candidates else ""
        log.warning("%s is not in the catalogue: taken for Self Forcing%s", item.file.path.name, like)
        return Recipe()
    return known.recipe


def licence_of(item: Identified) -> str:
    """Under which terms a checkpoint is given: from its header or the catalogue; empty where neither tells."""
    told = item.own.get("licence")
    return told if isinstance(told, str) else item.known.licence if item.known is not None else ""


def _settings(base: S, values: Any, name: str) -> S:
    """`base` with `values` of a header. Raises CheckpointError for what this version does not know or could not run."""
    try:
        settings = with_values(base, values)
        if isinstance(settings, MemorySpec):
            check(settings)
        if isinstance(settings, VideoSpec) and min(settings.width, settings.height, settings.fps) < 1:
            raise ValueError(f"pictures of {settings.width}x{settings.height} at {settings.fps} a second")
        if isinstance(settings, SampleSpec) and not (settings.steps and settings.shift > 0):
            raise ValueError(f"{len(settings.steps)} steps, shift {settings.shift:g}")
    except (ValueError, GroundedError) as error:
        said = error.message if isinstance(error, GroundedError) else error
        raise CheckpointError(
            f"{name} has settings in its header that this version does not know: {said}",
            "update the program, or use an older file.",
        ) from error
    return settings


def own_part(item: Identified, name: str) -> Path | None:
    """The file `name` beside a model of this project's own, where it is."""
    home = item.file.path if item.file.path.is_dir() else item.file.path.parent
    return home / name if item.own and (home / name).is_file() else None


def _encoder(
    text: TextEncoder | str | Path | None, item: Identified, device: str | torch.device
) -> TextEncoder:
    if text is not None and not isinstance(text, str | Path):
        return text
    own = own_part(item, "text.safetensors")
    if text is None and own is not None:
        return load_small_encoder(own, remembered([own], "whole", open_file(own).tensors))
    return open_text(Path(text) if text is not None else find("text", item.file.path), device=device)


def _codec(
    vae: LatentCodec | str | Path | None, item: Identified, device: str | torch.device, fit: Fit
) -> LatentCodec:
    if vae is None or isinstance(vae, str | Path):
        own = own_part(item, "codec.safetensors")
        vae = load_vae(vae or own or find("vae", item.file.path), device=device)
    return Tiled(vae, fit.tile) if fit.tile else vae


def checkpoint_fingerprint(item: Identified) -> str:
    """Hash of the transformer's tensors in a file."""
    return remembered(item.file.parts, _variant(item), item.what.tensors)


def known_fingerprint(item: Identified) -> str | None:
    """What `load_model` calls the model in this file, where it was opened before and has no LoRA; else None."""
    known, spec = recalled(item.file.parts, _variant(item)), item.what.spec
    needs = item.found.lora or (item.known is not None and item.known.lora)
    return None if known is None or spec is None or needs else combine([known, repr(spec)])


def _variant(item: Identified) -> str:
    return f"{item.found.outer or 'flat'} {item.what.scheme}"


def _fingerprint(item: Identified, spec: ModelSpec, loras: Sequence[Lora], fit: Fit) -> str:
    parts = [checkpoint_fingerprint(item), repr(spec)]
    for lora in loras:
        tensors = {f"{m} {part}": t for m, update in lora.updates.items() for part, t in update.parts.items()}
        parts += [hash_tensors(tensors), repr(lora.strength), repr(lora.alpha)]
        parts += [repr(sorted(lora.alphas.items()))] if lora.alphas else []
    if fit.weights == "full":
        return combine(parts)
    stored = any(tensor.rows for tensor in unscaled(item.what.tensors).values())
    fast = ["float8 products"] if fit.weights == "fp8-fast" else []
    return combine([combine(parts), "float8 as stored" if stored else "float8 rows", *fast])
