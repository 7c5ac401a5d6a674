"""Latents that `grounded encode` wrote: one safetensors file a clip, with its prompt and a digest in the header."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ...files.atomic import remove_abandoned
from ...files.listing import below
from ...files.names import LONGEST
from ...timeline.verbs import WORDS
from ..state import replacing
from .base import Sample, readable, refused

log = logging.getLogger("grounded")

MARK = "grounded clip"
"""The entry of the header that tells such a file: what it was made from, as JSON."""
_PART = re.compile(r"\.(.+)\.[0-9a-f]{8}\.part")
_NUMBERED = re.compile(r".+-\d{4,}\.safetensors")


class Encoded:
    """All clips in a folder and below, by name. latents: as of `open_source`."""

    def __init__(self, path: Path, latents: bool = True) -> None:
        self.path, self.unread = path, not latents
        self._files = clips(path)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, number: int) -> Sample:
        path = self._files[number]
        if self.unread and isinstance((facts := facts_of(path)).get("prompt"), str):
            return Sample(facts["prompt"], cues=_cues(path, facts.get("cues")))
        facts, latents = read_clip(path)
        return Sample(facts["prompt"], cues=_cues(path, facts.get("cues")), states=latents.float()[None])

    def told(self, *, changes: bool) -> Iterator[tuple[str, str]]:
        """Every prompt, with its file; a damaged one tells none, and is refused where it is read."""
        for path in self._files:
            if isinstance((facts := facts_of(path)).get("prompt"), str):
                yield path.name, facts["prompt"]
                cues = _cues(path, facts.get("cues")) if changes else None
                yield from ((path.name, prompt) for _, _, prompt in cues or ())


def _cues(path: Path, told: Any) -> tuple[tuple[int, str, str], ...] | None:
    """The fact `cues` of a clip. Raises GroundedError where it is no list of chunk, verb and prompt."""
    if told is None:
        return None
    try:
        cues = tuple((int(chunk), str(verb), str(prompt)) for chunk, verb, prompt in told)
    except (TypeError, ValueError) as error:
        raise refused(path, "its cues are no list of chunk, verb and prompt", "write it again") from error
    strange = [verb for _, verb, _ in cues if verb not in WORDS]
    if strange:
        raise refused(path, f"a cue has the verb {strange[0]!r}", f"give one of {', '.join(WORDS)}")
    return cues


def clips(folder: Path) -> list[Path]:
    """The safetensors files in `folder` and below, by name. Raises GroundedError: a folder there cannot be listed."""
    return [path for path in below(folder) if path.match("*.safetensors")]


def is_encoded(folder: Path) -> bool:
    """Whether any safetensors file there is a clip, whatever damaged or other ones lie beside it."""
    return any(map(facts_of, clips(folder)))


def write_clip(path: Path, latents: Tensor, facts: Mapping[str, Any]) -> None:
    """Write latents [f c h w] as float16, whole or not at all. facts: `prompt`, `cues` where it changes
    (`Sample.cues`), and what else tells the clip."""
    values = latents.detach().to("cpu", torch.float16).contiguous()
    header = {MARK: json.dumps(facts, sort_keys=True), "digest": _digest(values, facts)}
    # Bytes first: safetensors' own file writer fills another file, which nobody would know for ours after a kill.
    data = save({"latents": values}, header)
    with replacing(path) as part:
        part.write_bytes(data)


def sweep_clips(folder: Path) -> None:
    """Remove what kills left half-written of clips in `folder` and below, an hour ago or more. Raises GroundedError: a
    folder there cannot be listed."""
    for path in below(folder):
        if _is_part(path.name) and remove_abandoned(path):
            log.info("%s is removed: it was left half-written", path)


def _is_part(name: str) -> bool:
    """Whether a clip is called so while it is written; a long name is cut, with its number."""
    found = _PART.fullmatch(name)
    return found is not None and (
        _NUMBERED.fullmatch(found[1]) is not None or len(os.fsencode(name)) > LONGEST - 4
    )


def read_clip(path: Path) -> tuple[dict[str, Any], Tensor]:
    """Facts and latents [f c h w] of a clip. Raises GroundedError for damage and for another kind of file."""
    with readable(path, (SafetensorError, OSError, ValueError)), safe_open(path, "pt") as file:
        header = file.metadata() or {}
        if MARK not in header or "latents" not in file.keys():  # noqa: SIM118  # it is no mapping
            raise refused(
                path, "it is not a clip that was encoded here", "keep other files out of the folder"
            )
        latents = file.get_tensor("latents").clone()  # as `read_tensors` does
        facts = json.loads(header[MARK])
    if header.get("digest") != _digest(latents, facts):
        raise refused(path, "it is damaged", "delete it and run the same 'grounded encode' again")
    return facts, latents


def facts_of(path: Path) -> dict[str, Any]:
    """What the clip at `path` was made from, its latents unread; nothing where it is none, or damaged."""
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {}).get(MARK, "{}"))
    except (SafetensorError, OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _digest(latents: Tensor, facts: Mapping[str, Any]) -> str:
    found = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    found.update(latents.numpy().tobytes())
    return found.hexdigest()
