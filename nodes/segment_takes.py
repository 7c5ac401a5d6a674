"""Segment Takes: one segment rendered several times, each with its own seed, to pick one of."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io
from PIL import Image

from ..gf_core.errors import GroundedError, TakeError
from ..gf_core.timeline import parse
from ..gf_core.timeline.edits import reseed
from . import host
from .compat import nothing_yet, number, schema, widget
from .pictures import image_tensor
from .sampler_inputs import Rendering, advanced, options, settings, sockets
from .types import Timeline, TimelineText

if TYPE_CHECKING:
    from ..gf_core.take.shelf import Alternative


class SegmentTakes(Rendering):
    """Model and storyboard in; a sheet of takes, and the storyboard with the picked one, out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="GF_SegmentTakes",
            display_name="Segment Takes",
            description="Renders one segment several times, each with its own seed, and hands on the one you pick. "
            "What comes before the segment is used as it is; the picked one is not made again.",
            search_aliases=["reroll", "variations", "alternatives", "seeds", "compare seeds", "pick a take"],
            inputs=[*sockets(), *settings(), *_choice(), *options(), *_without_until()],
            outputs=[
                io.Image.Output(display_name="sheet", tooltip="A row of pictures per take, its name below."),
                Timeline.Output(
                    display_name="timeline",
                    tooltip="The film with the picked take, for Stream Sampler. Nothing comes out before that.",
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
            has_intermediate_output=True,  # so that the host tells the page what it shows although nothing ran
        )

    @classmethod
    @host.said_plainly
    def execute(
        cls, timeline: TimelineText, take: str, segment: int, count: int, pick: str, **inputs: Any
    ) -> io.NodeOutput:
        from .shown import shown, takes_facts

        node, bundle, wishes = cls.asked(until=segment, **inputs)
        film = timeline.with_seed(wishes.seed)
        made, sheet = _render(node, bundle, film, wishes, take, count)
        chosen = _picked(made, pick)
        then = "Pick one, and Run again" if chosen is None else f"{chosen.name} goes on, seed {chosen.seed}"
        facts = takes_facts(sheet.parent, segment, made)
        facts["text"] += f". {then}"
        with Image.open(sheet) as image:
            return io.NodeOutput(
                image_tensor(image), _with(film, segment, chosen), ui=shown(facts, text=[facts["text"]])
            )


def _render(
    node: str, bundle: Any, film: TimelineText, wishes: Any, take: str, count: int
) -> tuple[list[Alternative], Path]:
    """The takes that are whole, and their contact sheet. Raises TakeError: stopped before the first one was whole."""
    from ..gf_core.engine.segment_takes import open_shelf, render_each
    from ..gf_core.take.folder import Take
    from ..gf_core.take.shelf import with_take
    from .rendering import render, settle

    folder = host.take_folder(take)
    shelf, proposed = open_shelf(settle(bundle, film, wishes), folder, wishes.until, count)

    def one(alternative: Alternative) -> str | None:
        text = with_take(film.text, wishes.until, alternative)
        done = render(node, bundle, TimelineText(parse(text), text), wishes, take)
        return done.run if done.whole else None

    made = render_each(shelf, proposed, one, partial(Take.open, folder))
    if not made:
        raise TakeError(
            "stopped before the first take of the segment was whole",
            "press Run again: it goes on where it was",
        )
    return made, shelf.sheet


def _picked(made: list[Alternative], pick: str) -> Alternative | None:
    """The take called `pick`; None where nothing is picked yet. Raises GroundedError: there is no take of that name."""
    if not pick.strip():
        return None
    found = [one for one in made if one.name.casefold() == pick.strip().casefold()]
    if not found:
        names = ", ".join(one.name for one in made)
        raise GroundedError(f"there is no take called '{pick.strip()}'", f"pick one of: {names}")
    return found[0]


def _with(film: TimelineText, segment: int, chosen: Alternative | None) -> Any:
    """The film with that take; a stop for what is behind the node where there is none."""
    if chosen is None:
        return nothing_yet()
    text = reseed(film.text, segment, chosen.seed)
    return TimelineText(parse(text), text)


def _choice() -> list[Any]:
    return [
        number("segment", 1, (1, 10000), "The segment to try, counted from 1 as in the text."),
        number(
            "count", 4, (1, 26), "How many takes, called a, b, c ... a is the seed that the timeline has now."
        ),
        widget(
            io.String,
            "pick",
            default="",
            tooltip="Name of the take to go on with, such as b: the Pick button under it writes it here. "
            "Empty: nothing behind this node runs yet.",
        ),
    ]


def _without_until() -> list[Any]:
    return [entry for entry in advanced() if entry.id != "until"]
