"""How a finished film was made, read back out of it: the other side of `imprint`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..config import MemorySpec, Recipe, SampleSpec, VideoSpec
from ..errors import TakeError
from ..foreign import with_values
from ..video.metadata import read_metadata

S = TypeVar("S", MemorySpec, SampleSpec, VideoSpec)

BUILTIN = ("builtin", "built-in")
"""What the built-in model is called, here and inside ComfyUI."""


@dataclass(frozen=True)
class Recorded:
    """What a film carries about its making."""

    timeline: str
    """The storyboard's text."""
    model: str
    """Name of the model: `builtin`, or a file's name."""
    fingerprint: str
    """Hash of its weights, LoRAs included."""
    dtype: str
    """Number type it was computed in, such as float32."""
    device: str
    """`cpu`, or the card's name."""
    recipe: Recipe
    """Memory, sampler, size and speed."""
    film: dict[str, Any]
    """Codec, quality and upscale."""
    start_image: bool
    """It began from a picture, which is not in the file."""
    everything: dict[str, Any]
    """All of it, as stored."""

    @property
    def builtin(self) -> bool:
        """Whether the model is the one that comes with this program."""
        return self.model in BUILTIN

    @property
    def machine(self) -> dict[str, Any]:
        """Device, number type, library and threads: what decides the last bit."""
        return self.everything["settings"]["machine"]


def read_recorded(path: str | Path) -> Recorded:
    """What the film at `path` says about its making.

    Raises:
        TakeError: no film, a film of something else, or one of a newer version.
    """
    name, found = Path(path).name, read_metadata(path)
    try:
        everything = json.loads(found["grounded"])
        settings = everything["settings"]
        return Recorded(
            timeline=found["timeline"],
            model=settings["model"]["name"],
            fingerprint=settings["model"]["fingerprint"],
            dtype=settings["machine"]["dtype"],
            device=settings["machine"]["device"],
            recipe=Recipe(
                _spec(MemorySpec(), settings["memory"], name),
                _spec(SampleSpec(), settings["sample"], name),
                _spec(VideoSpec(), settings["video"], name),
            ),
            film=dict(settings["film"]),
            start_image=bool(everything["start_image"]),
            everything=everything,
        )
    except (KeyError, ValueError, TypeError) as error:
        raise TakeError(
            f"{name} does not say how it was made",
            "choose a film that this program made, or give the storyboard",
        ) from error


def read_timeline(path: str | Path) -> str:
    """The storyboard's text in the film at `path`; enough for films whose settings this version cannot read.

    Raises:
        TakeError: no film, or no storyboard in it.
    """
    try:
        return read_metadata(path)["timeline"]
    except KeyError as error:
        raise TakeError(
            f"there is no storyboard in {Path(path).name}", "choose a film that this program made"
        ) from error


def _spec(defaults: S, values: Any, name: str) -> S:
    try:
        return with_values(defaults, values)
    except ValueError as error:
        raise TakeError(f"{name} was made by a newer version, with {error}", "update the program") from error
