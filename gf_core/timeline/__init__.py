"""The storyboard: text that says what happens and for how long, and its plan in chunks. No torch."""

from ..config import MAX_SEED
from .grammar import format_storyboard, parse
from .plan import Plan, PlannedSegment, Timing, make_plan
from .storyboard import Picture, Segment, Storyboard
from .verbs import BEGIN_SHOT, Verb

__all__ = [
    "BEGIN_SHOT",
    "MAX_SEED",
    "Picture",
    "Plan",
    "PlannedSegment",
    "Segment",
    "Storyboard",
    "Timing",
    "Verb",
    "format_storyboard",
    "make_plan",
    "parse",
]
