"""May this file drive a causal film, and with what settings? Everything else is refused in words.

Causal and bidirectional Wan have the same tensors, so causality is told from what surrounds them: this
project's own header, a known file name, or the outer keys that only the training of causal generators
writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..config import ModelSpec
from ..errors import CheckpointError
from ..files.lazy import TensorFile
from ..files.strange import refuse_zeros
from ..files.tensors import open_file
from ..files.unwrap import Unwrapped, unwrap
from ..foreign import read_json
from ..words import amount, exact_size
from .absent import refuse_missing
from .catalog import KnownCheckpoint, by_id, drivable, named
from .detect import Detected, detect, own_settings
from .families import NEEDED, foreign, not_causal
from .lora import refuse_kind
from .recognise import Recognised, choices, recognise

GENERATOR_KEYS = ("generator_ema", "generator")
"""Outer keys written only by trainings of few-step causal generators."""


@dataclass(frozen=True, kw_only=True)
class Identified(Recognised):
    """A file, what is in it, and why it is taken for a causal model; `known` is None for this project's own files."""

    file: TensorFile
    """The opened file."""
    found: Unwrapped
    """Its network's tensors."""
    what: Detected
    """What they are."""
    own: dict
    """This project's settings from the header; empty for other files."""
    evidence: str
    """Why it counts as causal, in words; empty when nothing says so."""

    @property
    def spec(self) -> ModelSpec:
        """Shape of the transformer that `require_drivable` has found in it."""
        assert self.what.spec is not None
        return self.what.spec

    @property
    def home(self) -> Path:
        """The folder that it is, or lies in: where its parts are looked for first."""
        return self.file.path if self.file.path.is_dir() else self.file.path.parent


def identify(path: str | Path, *, assume: str | None = None) -> Identified:
    """Opens and describes `path` without judging it.

    `assume` is a catalogue id whose settings to take for a file of unknown name.
    Raises CheckpointError for an unreadable file, or an unknown `assume`.
    """
    refuse_missing(path)
    file = open_file(path)
    outer = [name for name in GENERATOR_KEYS if isinstance(file.tree.get(name), dict)]
    assumed = row_called(assume) if assume else None
    # A name says which outer key is meant; where there is none, comparing it with all that are known is spared.
    rows = (assumed,) if assumed else named(file.path, outer[0]) if outer else ()
    # Where rows want different keys none is meant, and `unwrap` takes the first of the usual ones.
    wanted = {row.outer for row in rows if row.outer in file.tree}
    found = unwrap(file.tree, wanted.pop() if len(wanted) == 1 else None)
    own = own_settings(file.metadata)
    what = detect(found, file.metadata, file.config)
    seen = Recognised(assumed) if own or assumed else recognise(file.path, found, what)
    evidence = _evidence(file.metadata, found.outer, seen.known, assumed is not None)
    seen = Recognised(None, seen.doubt, seen.candidates) if own else seen
    return Identified(**vars(seen), file=file, found=found, what=what, own=own, evidence=evidence)


def row_called(name: str) -> KnownCheckpoint:
    """The catalogue's row for an `assume`. Raises CheckpointError: there is none."""
    row = by_id(name)
    if row is None:
        known = ", ".join(drivable())
        raise CheckpointError(f"there is no kind of checkpoint called {name}", f"choose one of {known}.")
    return row


def _evidence(
    metadata: Mapping[str, str], outer: str | None, known: KnownCheckpoint | None, assumed: bool
) -> str:
    if own_settings(metadata) or marked_causal(metadata):
        return "its header says so"
    if known is not None and assumed:
        return f"assumed to be like {known.title}"
    if known is not None and known.causal:
        return f"its name is that of {known.title}"
    if outer in GENERATOR_KEYS:
        return f"it holds the weights under the key {outer}, as trainings of causal generators write it"
    return ""


def marked_causal(metadata: Mapping[str, str]) -> bool:
    """Whether a header carries ComfyUI's mark of a causal Wan: config.transformer.causal_ar."""
    try:
        config = read_json(metadata.get("config", "{}"))
        return bool(config.get("transformer", {}).get("causal_ar"))
    except (ValueError, AttributeError):
        return False  # somebody else's header


def require_drivable(item: Identified, *, assumed: bool = False) -> None:
    """Raises CheckpointError, saying what the file is and what is needed, unless the engine can drive it.

    `assumed`: the user vouched for causality, so catalogue refusals do not count (wrong networks still do).
    """
    name = item.file.path.name
    if not assumed:
        require_known(item)
    if item.what.family == "lora":
        refuse_kind(name, item.what.tensors, {})
    if item.what.family != "wan_t2v":
        raise foreign(name, item.what.family, item.what.channels)
    if item.what.unread is not None:
        raise CheckpointError(f"{name} is a Wan transformer {item.what.unread[0]}", item.what.unread[1])
    refuse_zeros(name, item.what.tensors)
    if not assumed and not item.evidence:
        like = f" Saved like it are {', '.join(item.candidates)}." if item.candidates else ""
        said = "say so: --assume self_forcing on the command line, assume='self_forcing' in Python."
        raise not_causal(name, size_name(item.what), said + like)


def require_known(item: Identified) -> None:
    """Refuses a network whose name leaves a doubt, and those that the catalogue knows not to be driven."""
    name, known = item.file.path.name, item.known
    if item.doubt:
        raise CheckpointError(
            f"{name}: {item.doubt}",
            f"say what it is, with {choices(item.candidates or drivable())} (in ComfyUI: under `assume`).",
        )
    transformer = item.what.family.startswith("wan_") and item.what.family != "wan_vae"
    if known is not None and known.refusal and transformer:
        raise CheckpointError(f"{name} is {known.title} ({known.repository}): {known.refusal}", NEEDED)


def size_name(what: Detected) -> str:
    """'1.42 B parameters (2.84 GB)' of a detected network."""
    stored = sum(tensor.nbytes for tensor in what.tensors.values())
    return f"{amount(what.parameters)} parameters ({exact_size(stored)})"
