"""How a finished film was made, read back out of it: the other side of `imprint`.

A film can come from anybody, so nothing in it is believed before its type and range are known.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from ..config import MAX_FPS, Encoding, MemorySpec, Recipe, SampleSpec, VideoSpec
from ..errors import GroundedError, TakeError
from ..foreign import read_json, with_values
from ..video import read_metadata
from .given.start import StartFile, start_of

log = logging.getLogger("grounded")

S = TypeVar("S", MemorySpec, SampleSpec, VideoSpec, Encoding)

BUILTIN = ("builtin", "built-in")
"""What the built-in model is called, here and inside ComfyUI."""
DTYPES = ("float32", "bfloat16", "float16")
"""Number types that films are computed in."""
LEAST: dict[str, float] = {
    **dict.fromkeys(("chunk", "first_chunk_frames", "upscale"), 1), "shift": 0.001,
}  # fmt: skip
"""The smallest number of a setting, where it is not 0."""
MOST: dict[str, float] = {
    "quality": 51, "fps": MAX_FPS, "alpha_max": 1, "ema_keep": 1, "bank_shares": 1, "steady": 1, "sparse": 1,
    **dict.fromkeys(("steps", "first_steps", "context_timestep"), 1000),
}  # fmt: skip
"""The largest number of a setting, where it is not `LARGEST`."""
LARGEST = 65_536
LONGEST = 1000
"""Numbers in a list of steps."""
NOT_OURS = "choose a film that this program made, or give the storyboard"
LONGEST_TEXT = 1 << 20
"""Characters of a storyboard: an hour of film takes a tenth of them."""
MADE_BY = "made by Grounded Forcing"
BEHIND = f"{MADE_BY} from this storyboard of %d characters:\n\n"
"""What stands before the storyboard in a film's comment, which is all that some programs keep when they copy a film."""


@dataclass(frozen=True)
class Recorded:
    """What a film carries about its making."""

    timeline: str
    """The storyboard's text."""
    model: str
    """Name of the model: `builtin`, or a file's name."""
    fingerprint: str
    """Hash of its weights, LoRAs included."""
    dtype: str | None
    """Number type it was computed in, such as float32; None where the film names none that there is."""
    device: str
    """`cpu`, or the card's name."""
    recipe: Recipe
    """Memory, sampler, size and speed."""
    encoding: Encoding
    """Codec, quality and upscale."""
    start_image: bool
    """It began from a picture or a video, which is not in the file."""
    start: StartFile | None
    """Which file that was, where the film says so."""
    machine: dict[str, Any]
    """Device, number type, library and threads: what decides the last bit."""
    segments: list[dict[str, Any]]
    """As planned: verb, prompt and more; empty where the film does not say."""
    everything: dict[str, Any]
    """All of it, as stored."""

    @property
    def builtin(self) -> bool:
        """Whether the model is the one that comes with this program."""
        return self.model in BUILTIN


def read_recorded(path: str | Path) -> Recorded:
    """What the film at `path` says about its making.

    Raises TakeError: no film, a film of something else, or one of a newer version.
    """
    name, timeline = Path(path).name, read_timeline(path)
    try:
        everything = read_json(read_metadata(path)["grounded"])
        json.dumps(everything, indent=1)  # what can be read with its last breath could not be printed
        settings = everything["settings"]
        machine, model = settings["machine"], settings["model"]
        return Recorded(
            timeline=timeline,
            model=_word(model["name"]),
            fingerprint=_word(model["fingerprint"]),
            dtype=_dtype(name, machine["dtype"]),
            device=_word(machine["device"]),
            recipe=Recipe(
                _spec(MemorySpec(), settings["memory"], name),
                _spec(SampleSpec(), settings["sample"], name),
                _spec(VideoSpec(), settings["video"], name),
            ),
            encoding=_spec(Encoding(), settings["film"], name),
            start_image=everything["start_image"] is True,
            start=start_of(settings.get("start")),
            machine={key: value for key, value in machine.items() if isinstance(value, str | int | float)},
            segments=[
                {**part, "verb": _word(part["verb"]), "prompt": _word(part["prompt"]), **_numbers(part)}
                for part in settings.get("segments", [])
            ],
            everything=everything,
        )
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise TakeError(
            f"{name} does not say how it was made", f"{NOT_OURS} (grounded open prints what is in it)"
        ) from error


def _numbers(part: dict[str, Any]) -> dict[str, int | None]:
    """A segment's own number and that of the one that it goes back to; None where there is none."""
    return {name: n if isinstance(n := part.get(name), int) else None for name in ("number", "back")}


def read_timeline(path: str | Path) -> str:
    """The storyboard's text in the film at `path`; enough for films whose settings this version cannot read.

    Raises TakeError: no film, or no storyboard in it.
    """
    found, name = read_metadata(path), Path(path).name
    text = found.get("timeline", _behind(found.get("comment", "")))
    if text is None:
        raise TakeError(
            f"there is no storyboard in {name}",
            "choose a film that this program made; where another program has copied it, its Take has the text",
        )
    if len(text) > LONGEST_TEXT:
        raise TakeError(
            f"the storyboard in {name} has {len(text):,} characters, which no film has", "choose another film"
        )
    return text


def comment(timeline: str) -> str:
    """What stands in the comment of a film of this storyboard."""
    return BEHIND % len(timeline) + timeline


def _behind(comment: str) -> str | None:
    """The storyboard in a film's comment; None where there is none, or a program has cut it."""
    text = comment.partition("\n\n")[2].replace("\r\n", "\n")
    return text if comment.startswith(MADE_BY) and comment.startswith(BEHIND % len(text)) else None


def _word(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{str(value)[:40]} where a word is meant")
    return value


def _dtype(name: str, value: Any) -> str | None:
    if value in DTYPES:
        return value
    log.warning("%s names no number type that there is: the device's own is taken", name)
    return None


def _spec(defaults: S, values: Any, name: str) -> S:
    """`defaults` with the film's `values` in it, each of its type and in its range."""
    try:
        spec = with_values(defaults, values)
    except ValueError as error:
        raise TakeError(f"{name} was made by a newer version, with {error}", "update the program") from error
    except GroundedError as error:
        raise TakeError(f"{name} was made with what cannot be: {error.message}", NOT_OURS) from error
    for field in fields(spec):
        value = getattr(spec, field.name)
        listed = value if isinstance(value, tuple) else (value,)
        least, most = LEAST.get(field.name, 0), MOST.get(field.name, LARGEST)
        fits = all(least <= one <= most for one in listed if isinstance(one, int | float))
        if not fits or not 0 < len(listed) <= LONGEST:
            raise TakeError(f"{name} was made with what cannot be: {field.name} {str(value)[:40]}", NOT_OURS)
    return spec
