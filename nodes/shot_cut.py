"""Shot Cut: one more shot in a film."""

from __future__ import annotations

from comfy_api.latest import io

from ..gf_core.timeline import MAX_SEED, format_storyboard
from ..gf_core.timeline.edits import insert_shot
from .compat import number, schema, widget
from .host import said_plainly
from .types import Timeline, TimelineText


class ShotCut(io.ComfyNode):
    """Storyboard in, storyboard with one more shot out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="GF_ShotCut",
            display_name="Shot Cut",
            description="Inserts a shot into a film: at a moment, before a segment, or at the end. "
            "What it interrupts goes on after it with a cut.",
            search_aliases=["insert shot", "hard cut", "scene cut", "transition"],
            inputs=[
                Timeline.Input("timeline", tooltip="The film that gets one more shot."),
                widget(
                    io.String,
                    "at",
                    default="end",
                    tooltip="Where: a moment such as 12.5s or 1:05, the number of the segment that it goes before "
                    "such as 3, or end. A moment inside a segment splits it.",
                ),
                widget(
                    io.String,
                    "prompt",
                    multiline=True,
                    default="a blue owl stands still in the forest at night",
                    tooltip="What is seen in the new shot. {name} stands for a @cast entry of the timeline.",
                ),
                number(
                    "seconds",
                    5.0,
                    (0.25, 3600.0),
                    "Length of the new shot. It snaps to whole chunks (0.75 s at 16 pictures per second).",
                    step=0.25,
                    round=0.001,
                ),
                widget(
                    io.Boolean,
                    "keep_cast",
                    default=True,
                    label_on="cut: same cast",
                    label_off="scene: forget all",
                    tooltip="On: a cut, the motion stops, the cast is remembered. Off: a new scene, all is forgotten.",
                ),
                number(
                    "seed",
                    -1,
                    (-1, MAX_SEED),
                    "Seed of the new shot. -1 derives one from the film's seed and the prompt.",
                ),
                number(
                    "back_to",
                    0,
                    (0, 10_000),
                    "Number of an earlier segment of the timeline that comes in: the new shot has its cast, "
                    "as it was at that segment's end. 0: keep_cast decides.",
                    optional=True,
                ),
            ],
            outputs=[Timeline.Output(display_name="timeline", tooltip="The film with the new shot in it.")],
        )

    @classmethod
    @said_plainly
    def execute(
        cls,
        timeline: TimelineText,
        at: str,
        prompt: str,
        seconds: float,
        keep_cast: bool,
        seed: int,
        back_to: int = 0,
    ) -> io.NodeOutput:
        own, back = None if seed < 0 else seed, back_to or None
        board = insert_shot(timeline.board, at, prompt, seconds, keep_cast=keep_cast, seed=own, back=back)
        return io.NodeOutput(TimelineText(board, format_storyboard(board)))
