"""What a film will take on the disk: latents exactly, pictures by the films before, states as they are kept."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ..config import MemorySpec
from ..memory.ledger import Ledger, Move
from ..take.states import STATES, pays
from ..timeline.plan import Plan
from ..vae.decoders import REACH, STATE_VALUES
from ..words import size
from .order import Order

if TYPE_CHECKING:
    from .measured import Pace

FILM_BITS = 1.0
"""Bits per pixel of film where none was made yet: the most at quality 18. Small films with hard edges come near it."""
LATENTS_HEAD = 80
"""Bytes of a latents file beside its numbers."""
CHUNK_NOTE = 342
"""Bytes of a chunk's line in the journal; measured, as are the following."""
NOTES = 4000
"""Bytes of settings, report and metadata of a film; two of each are kept."""
SEGMENT_NOTE = 650
"""Bytes that each segment adds to these."""
SHEET_PIXELS, SHEET_BYTES = 6 * 288 * 288, 1.3
"""Pixels of a segment's row on the contact sheet, were its pictures square, and bytes per pixel."""
STATE_HEAD = 1500
"""Bytes of a state's file beside its numbers."""


@dataclass(frozen=True)
class DiskCost:
    """Bytes."""

    latents: int = 0
    """Of the chunks that are made."""
    films: int = 0
    """The growing film and the one that is placed."""
    notes: int = 0
    """Journal, settings, report, contact sheet."""
    recalled: int = 0
    """States that later segments go back to."""
    states: int = 0
    """Kept for later edits, where there is room: the film needs none."""
    known: bool = False
    """Films with these settings were made before; else `films` is the most they can be."""

    @property
    def needed(self) -> int:
        """What must be free."""
        return self.latents + self.films + self.notes + self.recalled

    def line(self) -> str:
        """As text: `34 MB: latents 2 MB, films 10 MB, states 22 MB`."""
        parts = {name: count for name, count in asdict(self).items() if name != "known" and count}
        listed = ", ".join(f"{name} {size(count)}" for name, count in parts.items())
        return f"{'' if self.known else 'at most '}{size(self.needed + self.states)}: {listed}"


def disk_cost(
    order: Order, *, bits: float | None = None, pace: Pace | None = None, page: float | None = 0.0
) -> DiskCost:
    """What a film takes on the disk.

    bits: per pixel of such films; None counts the most.
    pace: decides which states are kept; None counts all of them.
    page: bits of a contact sheet per segment; None where one is drawn and its size is not known.
    """
    cost, memory, video, chunks = order.cost, order.recipe.memory, order.recipe.video, order.chunks
    # Pictures that are in the film already, where it goes on in its run.
    in_place = order.reuse.frames if order.reuse is not None and order.reuse.goes_on else 0
    frame = cost.spec.in_dim * math.prod(cost.cells(video)) * cost.value_bytes
    latents = memory.chunk * frame + LATENTS_HEAD
    pixels = video.width * video.height * order.encoding.upscale**2
    picture = pixels * (FILM_BITS if bits is None else bits) / 8
    segments = sum(segment.first_chunk < chunks for segment in order.plan.segments)
    row = SHEET_PIXELS * SHEET_BYTES * video.height / video.width if page is None else page / 8
    notes = chunks * CHUNK_NOTE + 2 * (NOTES + segments * SEGMENT_NOTE) + int(segments * row)
    states, recalled = map(sum, zip((0, 0), *_states(order, pace)))
    return DiskCost(
        latents=(chunks - order.kept) * latents + (0 if order.kept else order.lead * frame),
        films=int((2 * order.frames - in_place) * picture),
        notes=notes,
        recalled=recalled,
        states=min(STATES, states),
        known=bits is not None,
    )


def _states(order: Order, pace: Pace | None) -> Iterator[tuple[int, int]]:
    """Bytes of the states kept at the ends of segments that are to be made, as `shoot` and `finish` decide.

    Each as a pair: kept because it pays, kept because a segment goes back to it.
    """
    plan, cost, recipe, kept = order.plan, order.cost, order.recipe, order.kept
    memory, video, calls = recipe.memory, recipe.video, len(recipe.sample.steps) + 1
    seconds = float("inf") if pace is None else plan.timing.chunk_pictures / pace.fps
    decoder = STATE_VALUES[cost.decoder] * video.width * video.height
    decoder = decoder * (cost.decoder_bytes or cost.value_bytes) + STATE_HEAD
    most = {"memory": plan.chunks, "decoder": -(-REACH[cost.decoder] // memory.chunk)}
    since = {"memory": 0, "decoder": 0}
    for number, (segment, slots) in enumerate(zip(plan.segments, _slots(plan, memory))):
        end = segment.end
        if end <= kept or end > order.chunks:
            continue
        prompt = min(cost.spec.text_len, len(segment.prompt.split()) + 2) * cost.spec.text_dim
        own = cost.sizes(recipe).state(slots) + prompt * cost.value_bytes + STATE_HEAD
        for name, state, work in (("memory", own, seconds / calls), ("decoder", decoder, seconds / 2)):
            since[name] = min(most[name], since[name] + min(segment.chunks, end - kept))
            held = name == "memory" and number in plan.recalled
            if held or pays(state, since[name], work):
                since[name] = 0
                yield (0, state) if held else (state, 0)


def _slots(plan: Plan, memory: MemorySpec) -> Iterator[int]:
    """Latent frames in memory at the end of each segment, the chunk just made included."""
    ledger, kept = Ledger(memory), dict[int, Ledger]()

    def run(moves: Iterator[Move]) -> None:
        for _ in moves:
            pass

    for number, segment in enumerate(plan.segments):
        if segment.back is not None:
            now = ledger.frame, ledger.prompt
            ledger = copy.deepcopy(kept[segment.back])
            ledger.resume(*now)
        run(ledger.begin("cut" if segment.back is not None and not segment.motion else segment.verb))
        for chunk in range(segment.first_chunk, segment.end):
            run(ledger.make_room(memory.recent))
            ledger.commit(plan.timing.latent_frames(chunk))
        if number in plan.recalled:
            kept[number] = copy.deepcopy(ledger)
        yield ledger.layout.past + memory.bank - ledger.layout.bank  # what goes to a bank only a render knows
