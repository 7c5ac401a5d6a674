"""The storyboard world: endless small clips with captions and exact ground truth, in pure numpy."""

from .render import Rendered, render
from .script import KINDS, Character, Place, Script, Segment, frames_in, sample_script, storyboard
from .vocabulary import (
    ACTIONS,
    ATTRIBUTES,
    COLOURS,
    HATS,
    PATCHES,
    PICTURED,
    PLACES,
    SCARVES,
    SUBJECTS,
    TIMES,
    Labels,
    describe,
    words,
)

__all__ = [
    "ACTIONS",
    "ATTRIBUTES",
    "COLOURS",
    "HATS",
    "KINDS",
    "PATCHES",
    "PICTURED",
    "PLACES",
    "SCARVES",
    "SUBJECTS",
    "TIMES",
    "Character",
    "Labels",
    "Place",
    "Rendered",
    "Script",
    "Segment",
    "describe",
    "frames_in",
    "render",
    "sample_script",
    "storyboard",
    "words",
]
