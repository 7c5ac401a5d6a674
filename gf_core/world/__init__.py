"""The storyboard world: endless small clips with captions and exact ground truth, in pure numpy."""

from .render import render
from .script import Script, sample_script, storyboard
from .vocabulary import ACTIONS, ATTRIBUTES, COLOURS, PICTURED, PLACES, SUBJECTS, TIMES, words

__all__ = [
    "ACTIONS",
    "ATTRIBUTES",
    "COLOURS",
    "PICTURED",
    "PLACES",
    "SUBJECTS",
    "TIMES",
    "Script",
    "render",
    "sample_script",
    "storyboard",
    "words",
]
