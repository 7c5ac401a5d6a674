"""A checkpoint's transformers with the LoRAs that belong to them: all that a rank needs which does not lead."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..builtin import BUILTIN_FILES, BUILTIN_FOLDER, model_file
from ..config import Fit, ModelSpec, Recipe
from ..errors import CheckpointError
from ..files.scales import unscaled
from ..model.compiled import fused
from ..model.layers import Own, untouched
from ..model.offload import Streamed
from ..model.pieces import DIRECT, PLAIN, Pieces
from ..sampling.chunkwise import make_sampler
from ..sampling.graphs import Graphs, on_card
from ..sampling.sampler import Sampler
from .identify import Identified, identify, require_drivable
from .keymaps import experts
from .load import build_network
from .lora import Lora, open_lora, parse_lora

log = logging.getLogger("grounded")


@dataclass(frozen=True)
class Networks:
    """A checkpoint's transformers, all that a rank needs which does not lead."""

    model: nn.Module
    writer: nn.Module | None
    spec: ModelSpec

    def sampler(self, recipe: Recipe, *, compiled: bool = False, **placed: Any) -> Sampler:
        """A fresh sampler; `placed` as in `model.placement.Placement`.

        compiled: with fused pieces, and where weights stay on a card with recorded calls.
        """
        placed |= {"writer": self.writer, "pieces": fused() if compiled else self._pieces()}
        waiting = any(
            isinstance(net.blocks, Streamed) for net in (self.model, self.writer) if net is not None
        )
        device = placed.get("device") or next(self.model.parameters()).device
        if compiled and device.type == "cuda" and not waiting:
            placed["caller"] = Graphs(on_card())
        return make_sampler(self.model, self.spec, recipe, **placed)

    def _pieces(self) -> Pieces:
        """Who does a block's small operations, one by one."""
        networks = (self.model,) if self.writer is None else (self.model, self.writer)
        return (
            DIRECT if all(isinstance(network, Own) and untouched(network) for network in networks) else PLAIN
        )


def load_networks(
    source: str | Path,
    *,
    dtype: torch.dtype | None,
    device: str | torch.device,
    assume: str | None,
    loras: Sequence[tuple[str | Path, float]],
    fit: Fit | None,
) -> Networks:
    """The transformers alone; arguments and errors as of `bundle.load_model`."""
    item = identified(source, assume)
    return networks_of(item, loras=all_loras(item, loras), dtype=dtype, device=device, fit=fit)


def identified(source: str | Path, assume: str | None) -> Identified:
    """Which file `source` is, and what is in it; arguments and errors as of `bundle.load_model`."""
    path = _builtin_path() if str(source) == "builtin" else model_file(source)
    item = identify(path, assume=assume)
    require_drivable(item, assumed=assume is not None)
    return item


def networks_of(item: Identified, **placed: Any) -> Networks:
    """The transformers of an identified file; `placed` as in `load.build_network`."""
    denoising, writing = experts(unscaled(item.what.tensors))
    model = build_network(item.spec, denoising, **placed)
    return Networks(model, build_network(item.spec, writing, **placed) if writing else None, item.spec)


def _builtin_path() -> Path:
    missing = [name for name in BUILTIN_FILES if not (BUILTIN_FOLDER / name).is_file()]
    if missing:
        raise CheckpointError(
            f"the built-in model is incomplete: {', '.join(missing)} missing in {BUILTIN_FOLDER.name}",
            "reinstall the package, or make the files with `grounded train builtin`.",
        )
    return BUILTIN_FOLDER / BUILTIN_FILES[0]


def all_loras(item: Identified, asked: Sequence[tuple[str | Path, float]]) -> list[Lora]:
    """LoRAs to merge: those asked for, and the one inside the file or the one that the checkpoint cannot do without."""
    shapes = {name: tensor.shape for name, tensor in item.what.tensors.items()}
    loras = [open_lora(lora, strength, shapes) for lora, strength in asked]
    if item.found.lora:
        loras.append(parse_lora(item.found.lora, f"the LoRA inside {item.file.path.name}", 1.0, shapes))
    elif (beside := lora_beside(item, [lora for lora, _ in asked])) is not None:
        loras.append(open_lora(beside, 1.0, shapes))
    for lora in loras:
        log.info("merging %s (%d updates, strength %g)", lora.name, len(lora.updates), lora.strength)
    return loras


def lora_beside(item: Identified, asked: Sequence[str | Path] = ()) -> Path | None:
    """The LoRA file beside a checkpoint that is only a half without it; None where there is no such need.

    asked: LoRAs that are merged anyway. One of that name, wherever it lies, takes its place.

    Raises CheckpointError when it is not there.
    """
    known = item.known
    if known is None or not known.lora or item.found.lora:
        return None
    stem = Path(known.lora).stem
    if stem in {Path(lora).stem for lora in asked}:
        return None
    for suffix in (".pt", ".safetensors"):
        if (beside := item.home / f"{stem}{suffix}").is_file():
            return beside
    raise CheckpointError(
        f"{item.file.path.name} is only the first half of {known.title}: {known.note}",
        f"put {known.lora} from https://huggingface.co/{known.repository} beside it.",
    )
