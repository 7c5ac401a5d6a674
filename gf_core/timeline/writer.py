"""`Storyboard` to text; what is written always reads back as the same storyboard."""

from __future__ import annotations

from ..errors import StoryboardError
from .grammar import VERB, parse
from .lines import escape
from .options import write_options
from .storyboard import DEFAULT_FPS, Segment, Storyboard


def format_storyboard(board: Storyboard) -> str:
    """Write `board` as text; raises StoryboardError if no text can say it (say, a line break in a prompt)."""
    head = []
    if board.fps != DEFAULT_FPS:
        head.append(f"@fps {board.fps}")
    if board.seed is not None:
        head.append(f"@seed {board.seed}")
    if board.style:
        head.append(f"@style {board.style}")
    head += [f"@cast {name} = {description}" for name, description in board.cast.items()]
    says = [_say(segment) for segment in board.segments]
    width = max((len(say) for say in says if len(say) <= 60), default=0)
    body = [
        " | ".join([say.ljust(width), *write_options(segment)]) for say, segment in zip(says, board.segments)
    ]
    text = "\n".join([*head, *([""] if head else []), *body]) + "\n"
    if parse(text) != board:
        raise StoryboardError(
            "this storyboard cannot be written as text",
            "prompts, style and cast are single lines without blanks at the ends; the first verb is 'start'",
        )
    return text


def _say(segment: Segment) -> str:
    prompt = escape(segment.prompt)
    if segment.verb != "start":
        return f"{segment.verb}: {prompt}"
    # A first prompt that looks like a comment, a directive or a verb hides behind the verb it may have.
    return f"scene: {prompt}" if prompt[:1] in ("#", "@") or VERB.match(prompt) else prompt
