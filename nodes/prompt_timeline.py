"""Prompt Timeline: the film as text."""

from __future__ import annotations

from pathlib import Path

from comfy_api.latest import io

from ..gf_core.engine.given.cast import find_cast
from ..gf_core.errors import GroundedError, StoryboardError
from ..gf_core.timeline import parse
from .compat import schema, widget
from .host import in_words, input_folder, said_plainly
from .shown import shown
from .types import Timeline, TimelineText

FIRST_FILM = """\
@seed 7

a red fox walks right in a meadow at noon            | 6s
then: it jumps                                       | 4.5s
then: it strolls to the left                         | 4.5s
cut: the same red fox dances on a beach at sunset    | 5.25s
cut: a blue owl stands still in the forest at night  | 4.5s
cut: the same red fox sleeps in the snow at night    | 5.25s
"""


def _state(path: Path) -> str:
    try:
        state = path.stat()
    except OSError:
        return f"{path.name} missing"
    return f"{path.name} {state.st_size} {state.st_mtime_ns}"


def _foreign(text: str, error: StoryboardError) -> GroundedError:
    """`error`, or that the text is another program's."""
    from ..gf_core.editorial.others import is_theirs, understood

    if not is_theirs(text):
        return error
    try:
        said = understood(text)[1]
    except GroundedError as theirs:
        return theirs
    fix = "press Convert under the storyboard, or paste here what `grounded open` prints of its file"
    return GroundedError(f"this is {said}", fix)


class PromptTimeline(io.ComfyNode):
    """Text in, storyboard out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="GF_PromptTimeline",
            display_name="Prompt Timeline",
            description="The film as text: one line per segment, with its length. "
            "then: goes on in the same shot, cut: is a new shot with the same cast, back to 2: one with the cast of "
            "segment 2, scene: forgets all.",
            search_aliases=["storyboard", "shot list", "prompt schedule", "prompt travel", "script"],
            inputs=[
                widget(
                    io.String,
                    "timeline",
                    multiline=True,
                    default=FIRST_FILM,
                    tooltip="One segment per line: what is seen | 5s. Lines after the first begin with then:, cut:, "
                    "back to 2: or scene:. More options: seed 7, blend 1.5s, recache 0.8, mute. "
                    "@style, @cast, @seed and @fps stand on lines of their own. @cast fox = a red fox | fox.png shows, "
                    "with a picture from the input folder, what the fox looks like.",
                ),
            ],
            outputs=[
                Timeline.Output(display_name="timeline", tooltip="The storyboard, for Stream Sampler."),
                io.Float.Output(
                    display_name="seconds", tooltip="Length of the film as written, without muted segments."
                ),
            ],
            has_intermediate_output=True,  # so that a text from another node is seen although nothing ran
        )

    @classmethod
    def fingerprint_inputs(cls, timeline: str | None = None) -> str:
        """Changes when a picture of the cast has changed on the disk, so that the film is made anew."""
        try:
            pictures = parse(timeline).pictures.values() if isinstance(timeline, str) else ()
        except StoryboardError:  # told by `validate_inputs`
            pictures = ()
        return " ".join(sorted({_state(input_folder() / picture.file) for picture in pictures}))

    @classmethod
    def validate_inputs(cls, timeline: str | None = None) -> bool | str:
        """Point at a mistake before anything runs; text from another node is only known later."""
        if not isinstance(timeline, str):
            return True
        try:
            find_cast(parse(timeline), input_folder())
        except StoryboardError as error:
            return in_words(_foreign(timeline, error))
        return True

    @classmethod
    @said_plainly
    def execute(cls, timeline: str) -> io.NodeOutput:
        try:
            board = parse(timeline)
        except StoryboardError as error:
            raise _foreign(timeline, error) from error
        seconds = sum(segment.seconds for segment in board.segments if not segment.mute)
        return io.NodeOutput(TimelineText(board, timeline), seconds, ui=shown({"text": timeline}))
