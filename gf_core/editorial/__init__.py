"""Films to editing programs and back: OpenTimelineIO, and through its plugins EDL and Final Cut XML; and, in `others`,
storyboards of other programs."""

from .otio import Span, read_edit, write_edit

__all__ = ["Span", "read_edit", "write_edit"]
