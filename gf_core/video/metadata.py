"""Text inside a film: title, comment, and the graph where ComfyUI looks for it (`prompt`, `workflow`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .reader import open_film

MP4_OWN = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder", "creation_time"})
"""Keys that every mp4 carries about itself."""


def as_text(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Values as the file holds them: text stays, everything else becomes JSON; None is left out."""
    return {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in metadata.items()
        if value is not None
    }


def read_metadata(path: str | Path) -> dict[str, str]:
    """Key -> text as stored in the film, without what the format says about itself."""
    with open_film(path) as container:
        found = dict(container.metadata)
        if "matroska" in container.format.name:  # its writer raises every letter
            found = {key.lower(): value for key, value in found.items()}
        return {key: value for key, value in found.items() if key not in MP4_OWN}
