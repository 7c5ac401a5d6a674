"""What a MODEL was trained to do: written on it by Load Model, else told from its file, else refused in words.

Causal and bidirectional Wan hold the same tensors, so a plain MODEL of another loader is known by where it came from:
the file that its prompt graph names, or what the user assumes.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...gf_core.checkpoints.bundle import licence_of, wanted_recipe
from ...gf_core.checkpoints.catalog import KnownCheckpoint, match
from ...gf_core.checkpoints.families import NEEDED, not_causal
from ...gf_core.checkpoints.identify import Identified, identify, require_known, row_called
from ...gf_core.checkpoints.keymaps import experts
from ...gf_core.config import ModelSpec, Recipe
from ...gf_core.errors import CheckpointError
from ...gf_core.estimate.room import count_parameters
from ...gf_core.words import amount
from .request import DETECT
from .shape import network_of

log = logging.getLogger("grounded")
KEY = "grounded"
"""Name of our attachment on a MODEL."""
FOLDERS = ("diffusion_models", "unet", "unet_gguf", "checkpoints")
"""Model folders of ComfyUI in which a file's name is looked up."""


@dataclass(frozen=True)
class Wanted:
    """What a checkpoint wants, and how that is known."""

    name: str
    """For people."""
    recipe: Recipe
    """Steps and shift, memory that makes long films with it, size and speed that it was trained at."""
    evidence: str
    """Why it counts as causal."""
    fingerprint: str = ""
    """Hash of its file; empty when only the host knows the weights."""
    builtin: bool = False
    """The built-in model, which needs its own text encoder and decoder."""
    licence: str = ""
    """Under which terms its authors give it; empty where that is not known."""
    writer: Any = None
    """ModelPatcher of the second set of weights, which writes the memory (SGF+); None where one set does both."""


def attach(patcher: Any, wanted: Wanted) -> None:
    """Write settings on a MODEL; they survive LoRA nodes and clones."""
    patcher.set_attachments(KEY, wanted)


def attached(patcher: Any) -> Wanted | None:
    """The settings that Load Model wrote on a MODEL."""
    found = patcher.get_attachment(KEY)
    return found if isinstance(found, Wanted) else None


def settings_of(patcher: Any, spec: ModelSpec, assume: str | None, model_file: str | None) -> Wanted:
    """What the MODEL wants. `assume`: a catalogue id to take it for, None or "detect" to find out.

    Raises CheckpointError: nothing says that it is causal, or it is known not to be.
    """
    found = attached(patcher)
    if assume and assume != DETECT:
        known = row_called(assume)
        name = found.name if found else known.title
        base = from_catalog(name, known, f"assumed to be like {known.title}")
        if found is None:
            return base
        return replace(base, fingerprint=found.fingerprint, builtin=found.builtin, writer=found.writer)
    if found is not None:
        return found
    return _from_file(model_file, spec) or _from_class(patcher) or _refuse(model_file, spec)


def from_catalog(name: str, known: KnownCheckpoint, evidence: str) -> Wanted:
    """The settings of a catalogue row."""
    return Wanted(name, known.recipe, evidence, licence=known.licence)


def from_identified(item: Identified) -> Wanted:
    """The settings of an opened file that may be driven."""
    name = item.own.get("name") or item.file.path.name
    return Wanted(name, wanted_recipe(item), item.evidence, licence=licence_of(item))


def require_one_set(item: Identified) -> None:
    """Refuse another loader's file with a second set of weights (SGF+): the MODEL holds one, the other would be lost.

    Raises CheckpointError: says what to use.
    """
    if experts(item.what.tensors)[1]:
        raise CheckpointError(
            f"{item.file.path.name} holds a second set of weights, which writes the memory, and a MODEL holds only one",
            "open it with Load Model (Grounded Forcing), which takes both.",
        )


def locate(name: str, folders: tuple[str, ...] = FOLDERS) -> Path | None:
    """The file that ComfyUI shows as `name` in one of its model folders."""
    import folder_paths

    known = folder_paths.folder_names_and_paths
    paths = (folder_paths.get_full_path(folder, name) for folder in folders if folder in known)
    return next((Path(path) for path in paths if path), None)


def _from_file(model_file: str | None, spec: ModelSpec) -> Wanted | None:
    """Settings by the file's header, outer keys or name; None when they say nothing."""
    if not model_file:
        return None
    path = locate(model_file)
    known = match(path or Path(model_file), spec.dim)
    if path is not None and path.suffix.lower() != ".gguf":
        try:
            item = identify(path)
        except CheckpointError as error:  # the host could open it, so it is only strange to us
            log.info("%s is told by its name only: %s", path.name, error.message)
        else:
            require_known(item)
            known = item.known
            if item.evidence and (known is None or not known.refusal):
                require_one_set(item)
                _remind(known)
                return from_identified(item)
    if known is None or not known.causal:
        return None
    if known.refusal:
        raise CheckpointError(f"{model_file} is {known.title} ({known.repository}): {known.refusal}", NEEDED)
    _remind(known)
    return from_catalog(Path(model_file).name, known, f"its name is that of {known.title}")


def _remind(known: KnownCheckpoint | None) -> None:
    if known is not None and known.lora:
        log.warning(
            "%s needs %s: Load Model (Grounded Forcing) merges it, other loaders need a LoRA node",
            known.title,
            known.lora,
        )


def _from_class(patcher: Any) -> Wanted | None:
    """Settings of a MODEL that the host itself has opened as causal."""
    if type(network_of(patcher)).__name__ != "CausalWanModel":
        return None
    return Wanted("causal Wan", Recipe(), "ComfyUI loaded it as causal")


def _refuse(model_file: str | None, spec: ModelSpec) -> Wanted:
    raise plain_wan(f"the MODEL ({model_file})" if model_file else "the MODEL", count_parameters(spec))


def plain_wan(name: str, parameters: int) -> CheckpointError:
    """The refusal of a plain Wan transformer called `name`."""
    return not_causal(name, f"{amount(parameters)} parameters", "choose what it is like under `assume`.")
