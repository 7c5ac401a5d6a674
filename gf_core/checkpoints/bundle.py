"""Everything that a film needs, opened together: transformer, text encoder, codec, and the settings they want."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from ..config import Fit, MemorySpec, Recipe, SampleSpec, VideoSpec
from ..errors import CheckpointError, GroundedError
from ..files.fingerprint import combine, hash_tensors, recalled, remembered
from ..files.scales import unscaled
from ..foreign import with_values
from ..memory.checks import check
from ..memory.presets import PRESETS
from ..text.base import TextEncoder
from ..text.small import load_small_encoder
from ..text.store import StoredEncoder
from ..vae.base import LatentCodec
from ..vae.load import load_vae
from ..vae.tiles import Tiled
from ..words import counted
from .companions import find, open_text
from .identify import Identified
from .lora import Lora
from .model_bundle import ModelBundle
from .networks import all_loras, identified, networks_of
from .recognise import choices

log = logging.getLogger("grounded")
S = TypeVar("S", MemorySpec, SampleSpec, VideoSpec)


def load_model(
    source: str | Path = "builtin",
    *,
    text: TextEncoder | str | Path | None = None,
    vae: LatentCodec | str | Path | None = None,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    assume: str | None = None,
    loras: Sequence[tuple[str | Path, float]] = (),
    prompts: Sequence[str] = (),
    fit: Fit | None = None,
    compiled: bool | None = None,
    attention: str = "",
    parts_on: torch.device | None = None,
) -> ModelBundle:
    """Opens `source`: "builtin", a checkpoint file, or a folder.

    text, vae: a ready encoder or codec, or the path of one; None looks beside the model. dtype: float32 on the CPU,
    bfloat16 elsewhere. assume: catalogue id to take a renamed causal file for. loras: (path, strength) pairs merged
    into the weights. prompts: of the film to come; a large text encoder reads them before the transformer is loaded,
    so that the two are never in memory together. fit: what is done so that films fit; its `memory` is a film's, and
    goes into the recipe that the weights want. compiled, attention, parts_on: as in `ModelBundle`.

    Raises CheckpointError, saying what the file is and what is needed, or ResourceError for too little
    memory.
    """
    item = identified(source, assume)
    merges = all_loras(item, loras)
    fit = fit or Fit()
    codec = _codec(vae, item, parts_on or device, fit)
    encoder = _encoder(text, item, parts_on or device)
    if prompts and isinstance(encoder, StoredEncoder):
        encoder.encode(list(prompts))
    networks = networks_of(item, loras=merges, dtype=dtype, device=device, fit=fit)
    return ModelBundle(
        name=str(item.own.get("name") or item.file.path.name),
        model=networks.model,
        spec=item.spec,
        text=encoder,
        codec=codec,
        recipe=wanted_recipe(item).fitted(fit),
        fingerprint=_fingerprint(item, merges, fit),
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
    item = identified(source, assume)
    fit = fit or Fit()
    prints = {
        "model": _fingerprint(item, all_loras(item, loras), fit),
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
        if isinstance(settings, SampleSpec) and not (settings.steps and settings.shift > 0):
            raise ValueError(f"{counted(len(settings.steps), 'step')}, shift {settings.shift:g}")
    except (ValueError, GroundedError) as error:
        said = error.message if isinstance(error, GroundedError) else error
        raise CheckpointError(
            f"{name} has settings in its header that this version does not know: {said}",
            "update the program, or use an older file.",
        ) from error
    return settings


def own_part(item: Identified, name: str) -> Path | None:
    """The file `name` beside a model of this project's own, where it is."""
    return item.home / name if item.own and (item.home / name).is_file() else None


def _encoder(
    text: TextEncoder | str | Path | None, item: Identified, device: str | torch.device
) -> TextEncoder:
    if text is not None and not isinstance(text, str | Path):
        return text
    own = own_part(item, "text.safetensors")
    if text is None and own is not None:
        return load_small_encoder(own)
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


def _fingerprint(item: Identified, loras: Sequence[Lora], fit: Fit) -> str:
    parts = [checkpoint_fingerprint(item), repr(item.spec)]
    for lora in loras:
        tensors = {f"{m} {part}": t for m, update in lora.updates.items() for part, t in update.parts.items()}
        parts += [hash_tensors(tensors), repr(lora.strength), repr(lora.alpha)]
        parts += [repr(sorted(lora.alphas.items()))] if lora.alphas else []
    if fit.weights == "full":
        return combine(parts)
    # Float8 that the file holds is taken as it is; what is rounded here gives other numbers.
    stored = any(tensor.rows for tensor in unscaled(item.what.tensors).values())
    fast = ["float8 products"] if fit.weights == "fp8-fast" else []
    return combine([combine(parts), "float8 as stored" if stored else "float8 rows", *fast])
