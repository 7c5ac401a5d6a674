"""The one door to model files: tells the format by the content, not the suffix, and opens it without reading tensors.

A file of 57 GB is so described in a moment. Damaged, foreign and unsafe files are refused in words. Each format is a
module whose `opens` gives the file, or None where it is of another.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, reason
from ..foreign import read_json
from ..words import part_of, plain
from . import gguf_file, pickles, safetensors_file
from .absent import missing
from .lazy import LazyTensor, TensorFile
from .names import MODEL_SUFFIXES
from .strange import MAX_TEXT, refuse_foreign, refuse_unfinished, start_of

_PART = re.compile(r"(.+)-([0-9]{5})-of-([0-9]{5})(\.safetensors|\.bin)")
"""What one file of a model in parts is called: `diffusion_pytorch_model-00001-of-00002.safetensors`."""


def open_file(path: str | Path) -> TensorFile:
    """Opens `path`; raises CheckpointError when it is missing, damaged, unsafe or of another kind."""
    path = Path(os.path.expanduser(path))
    try:
        if not path.exists():
            raise missing(path)
        if path.is_dir():
            return _open_folder(path)
        head = start_of(path, 512)
    except OSError as error:
        raise CheckpointError(
            f"{path.name[:80]} cannot be read: {reason(error)}",
            "check the path and your rights to the file.",
        ) from error
    refuse_unfinished(path)
    if (part := _PART.fullmatch(path.name)) and int(part[3]) > 1:
        raise CheckpointError(
            f"{plain(path.name, 200)} is one part of a model in {int(part[3])} parts",
            f"give the folder {path.absolute().parent.name}, with all of them in it.",
        )
    for form in (safetensors_file, pickles, gguf_file):
        if (file := form.opens(path, head)) is not None:
            return file
    refuse_foreign(path, head)
    return safetensors_file.read(path)


def read_settings(file: Path) -> Any:
    """The JSON file `file` beside a model. Raises CheckpointError when it is damaged, too long or no file."""
    try:
        text = start_of(file, MAX_TEXT + 1)
        if len(text) > MAX_TEXT:
            raise ValueError("it is too long")
        return read_json(text)
    except (ValueError, OSError) as error:
        raise CheckpointError(
            f"{file.name} in {file.parent.name} is damaged", "download it again."
        ) from error


def _open_folder(path: Path) -> TensorFile:
    """A diffusers folder (or its `transformer` part), a sharded set, or a folder holding one model file."""
    inner = path / "transformer"
    root = inner if inner.is_dir() else path
    indexes = sorted(root.glob("*.safetensors.index.json"))
    if indexes:
        shards = _shards_of_index(root, indexes[0])
    else:
        shards = sorted(root.glob("diffusion_pytorch_model*.safetensors")) or sorted(
            root.glob("model*.safetensors") if (root / "config.json").exists() else ()
        )
        _refuse_missing(root, _sisters(shards))
    if not shards:
        files = sorted(p for p in root.iterdir() if p.suffix.lower() in MODEL_SUFFIXES)
        if len(files) == 1:
            return replace(open_file(files[0]), config=_read_config(root))
        listing = ", ".join(p.name for p in files[:8]) or "no model file"
        raise CheckpointError(
            f"the folder {root.name or root} is not a model in diffusers layout; it holds {listing}",
            "name one file, or the folder that holds config.json and diffusion_pytorch_model*.safetensors.",
        )
    tree: dict[str, LazyTensor] = {}
    metadata: dict[str, str] = {}
    for shard in shards:
        start_of(shard, 0)
        refuse_unfinished(shard)
        part = safetensors_file.read(shard)
        tree.update(part.tree)
        metadata.update(part.metadata)
    return TensorFile(path, "folder", tree, metadata, _read_config(root), tuple(shards))


def _shards_of_index(root: Path, index: Path) -> list[Path]:
    try:
        names = sorted(set(read_settings(index)["weight_map"].values()))
        _refuse_missing(root, names)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{index.name} is damaged", "download it again.") from error
    return [root / name for name in names]


def _sisters(shards: Sequence[Path]) -> list[str]:
    """All parts of the models that some of `shards` are parts of, as their names count them."""
    models = {part.group(1, 3, 4) for shard in shards if (part := _PART.fullmatch(shard.name))}
    return [
        f"{stem}-{n:05d}-of-{total}{end}" for stem, total, end in models for n in range(1, int(total) + 1)
    ]


def _refuse_missing(root: Path, names: Sequence[str]) -> None:
    names = sorted(set(names))
    missing = [n for n in names if os.path.basename(n) != n or not (root / n).is_file()]
    if missing:
        whose = f"of the model in {root.name}"
        raise CheckpointError(
            f"{part_of(len(missing), len(names), 'part', f'{whose} is', f'{whose} are')} missing: "
            f"{plain(', '.join(missing[:4]), 200)}",
            "download the missing parts into the same folder.",
        )


def _read_config(root: Path) -> dict[str, Any]:
    config = read_settings(root / "config.json") if (root / "config.json").exists() else {}
    return config if isinstance(config, dict) else {}
