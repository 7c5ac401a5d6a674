"""Tells a person what a model file is, without loading it: printed by `grounded inspect`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..config import Recipe
from ..errors import CheckpointError
from ..files.scales import unscaled
from ..timeline import Timing
from ..words import amount, counted, exact_size, plain
from .bundle import licence_of, own_part, wanted_recipe
from .companions import find
from .families import kind_in_words
from .identify import Identified, identify, require_drivable
from .networks import lora_beside

_KINDS = {"safetensors": "safetensors", "pickle": "PyTorch pickle", "gguf": "GGUF", "folder": "folder"}


@dataclass(frozen=True)
class Report:
    """What a file is, as (label, text) rows."""

    rows: tuple[tuple[str, str], ...]
    """In the order to show them."""
    usable: bool
    """True when the engine can make films with it."""

    @property
    def lines(self) -> list[str]:
        """Aligned lines for a terminal."""
        width = max(len(label) for label, _ in self.rows)
        return [f"{label:<{width}}  {plain(text)}" for label, text in self.rows]

    def __str__(self) -> str:
        return "\n".join(self.lines)


def inspect_file(path: str | Path, *, assume: str | None = None) -> Report:
    """Describes a checkpoint and says whether and how films are made with it.

    Raises CheckpointError only when the file cannot be opened at all; a wrong kind of model is a normal
    report.
    """
    item = identify(path, assume=assume)
    rows = [("file", _file(item)), ("what", _what(item)), ("stored as", _stored(item))]
    if item.what.family != "lora":  # it becomes part of its model
        rows.append(("in memory", _in_memory(item)))
    if item.known is not None:
        rows.append(
            ("known as", f"{item.known.title} ({item.known.repository}), by its layout; never tried here")
        )
        if item.known.note:
            rows.append(("note", item.known.note))
    if licence := licence_of(item):
        rows.append(("licence", licence))
    if item.evidence:
        rows.append(("causal", f"yes: {item.evidence}"))
    if item.candidates and not item.doubt and item.evidence:
        rows.append(("saved like", f"{', '.join(item.candidates)}; say which with --assume"))
    try:
        require_drivable(item, assumed=assume is not None)
        lora = lora_beside(item)
    except CheckpointError as error:
        rows += [("usable", f"no: {error.message}"), ("do", error.fix)]
        return Report(tuple(rows), usable=False)
    recipe = wanted_recipe(item)
    rows += _settings_rows(item, recipe)
    rows += [("usable", "yes"), *([("LoRA", lora.name)] if lora else []), *_companion_rows(item)]
    return Report(tuple(rows), usable=True)


def _file(item: Identified) -> str:
    size = sum(part.stat().st_size for part in item.file.parts)
    parts = f", {len(item.file.parts)} parts" if len(item.file.parts) > 1 else ""
    return f"{item.file.path.name} ({exact_size(size)}{parts}, {_KINDS[item.file.kind]})"


def _what(item: Identified) -> str:
    what, spec = item.what, item.what.spec
    size = f"{amount(what.parameters)} parameters in {counted(len(what.tensors), 'tensor')}"
    text = f"{kind_in_words(what.family, what.channels)}; {size}"
    if spec:
        text += f"; width {spec.dim}, {counted(spec.num_layers, 'block')}, {counted(spec.num_heads, 'head')}"
    return text


def _stored(item: Identified) -> str:
    text = str(item.what.dtype).removeprefix("torch.")
    if item.what.quantised:
        text = item.what.quantised if item.file.kind == "gguf" else f"{text} ({item.what.quantised})"
    text += f", {item.what.scheme} names"
    if item.found.prefix:
        text += f" behind {item.found.prefix}"
    if item.found.outer:
        others = [name for name in item.found.available if name != item.found.outer]
        text += f", under {item.found.outer}" + (f" (also there: {', '.join(others)})" if others else "")
    if item.found.lora:
        text += f", with a LoRA of {counted(len(item.found.lora), 'tensor')}"
    return text


def _in_memory(item: Identified) -> str:
    """What the weights take once they are loaded, however small they are stored."""
    count = sum(tensor.numel for tensor in unscaled(item.what.tensors).values())
    return f"{exact_size(2 * count)} as bfloat16, {exact_size(4 * count)} as float32"


def _settings_rows(item: Identified, recipe: Recipe) -> list[tuple[str, str]]:
    sample, memory, video = recipe.sample, recipe.memory, recipe.video
    meant = "warped" if sample.warp else "taken as they are"
    seconds = Timing.of(recipe).chunk_pictures / video.fps
    preset, reason = "grounded", "nothing is said of its training"
    if item.known is not None:
        preset, reason = item.known.memory, item.known.reason
    elif item.own:
        preset, reason = "its own", "its header says so"
    return [
        ("steps", f"{sample.steps_in_words()} ({meant}), shift {sample.shift:g}"),
        ("chunk", f"{counted(memory.chunk, 'latent frame')}, {seconds:g} s of film"),
        (
            "memory",
            f"{preset}: {counted(memory.anchors, 'anchor')} + {memory.recent} recent + {memory.chunk} current "
            f"= {memory.window} latent frames (anchors hold the cast), {memory.positions} positions: {reason}",
        ),
        ("film", f"{video.width} x {video.height} at {video.fps:.5g} pictures a second"),
    ]


def _companion_rows(item: Identified) -> list[tuple[str, str]]:
    """Where the text encoder and the VAE would come from."""
    rows = []
    for label, kind, name in (
        ("text encoder", "text", "text.safetensors"),
        ("VAE", "vae", "codec.safetensors"),
    ):
        try:
            rows.append((label, (own_part(item, name) or find(kind, item.file.path)).name))
        except CheckpointError as error:
            rows.append((label, f"missing: {error.fix}"))
    return rows
